// The part of the REST interface of Leshan's demonstration server that an operator needs, on the reference implementation's
// libraries: the demonstration cannot be had as an artifact. Routes, parameters and bodies are those of its servlets: what those
// refuse is refused here, and a request to a device that sleeps waits as it does there.
//
// java -cp LIBRARIES:CLASSES Rest HTTP_PORT COAP_PORT COAPS_PORT KEY [SETTING=VALUE…]
// The rest is that of Server.java, which prints `ready`.

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import java.io.IOException;
import java.net.InetSocketAddress;
import java.net.URLDecoder;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Date;
import java.util.HashMap;
import java.util.Iterator;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.Executors;
import org.eclipse.leshan.core.link.LinkParseException;
import org.eclipse.leshan.core.link.lwm2m.DefaultLwM2mLinkParser;
import org.eclipse.leshan.core.link.lwm2m.attributes.DefaultLwM2mAttributeParser;
import org.eclipse.leshan.core.link.lwm2m.attributes.LwM2mAttributeSet;
import org.eclipse.leshan.core.model.ResourceModel.Type;
import org.eclipse.leshan.core.node.*;
import org.eclipse.leshan.core.observation.CompositeObservation;
import org.eclipse.leshan.core.observation.Observation;
import org.eclipse.leshan.core.observation.SingleObservation;
import org.eclipse.leshan.core.request.*;
import org.eclipse.leshan.core.request.WriteRequest.Mode;
import org.eclipse.leshan.core.request.exception.ClientSleepingException;
import org.eclipse.leshan.core.response.LwM2mResponse;
import org.eclipse.leshan.core.util.datatype.ULong;
import org.eclipse.leshan.server.queue.PresenceListener;
import org.eclipse.leshan.server.registration.Registration;
import org.eclipse.leshan.servers.security.SecurityInfo;

public class Rest {
    static final ObjectMapper json = new ObjectMapper();

    /** The request that waits for a device that sleeps, by the id of its registration: the last one, as in the demonstration. */
    static final Map<String, Waiting> waiting = new ConcurrentHashMap<>();

    record Waiting(DownlinkDeviceManagementRequest<? extends LwM2mResponse> request, long timeout) {
    }

    /** What is answered with another status than 200. */
    static class Refusal extends RuntimeException {
        final int status;

        Refusal(int status, String reason) {
            super(reason);
            this.status = status;
        }
    }

    public static void main(String[] args) throws Exception {
        Server.start(Arrays.copyOfRange(args, 1, args.length));
        Server.server.getPresenceService().addListener(new PresenceListener() {
            @Override
            public void onAwake(Registration one) {
                Waiting request = waiting.remove(one.getId());
                if (request != null) {
                    Server.server.send(one, request.request(), request.timeout(), response -> {
                    }, error -> Server.print("delayed-failed " + error));
                }
            }

            @Override
            public void onSleeping(Registration one) {
            }
        });
        HttpServer http = HttpServer.create(new InetSocketAddress("127.0.0.1", Integer.parseInt(args[0])), 0);
        http.createContext("/api/", Rest::handle);
        http.setExecutor(Executors.newCachedThreadPool());
        http.start();
        Server.obey();
        System.exit(0);
    }

    static void handle(HttpExchange exchange) throws IOException {
        int status = 200;
        String answer;
        try {
            String text = new String(exchange.getRequestBody().readAllBytes(), StandardCharsets.UTF_8);
            String type = String.valueOf(exchange.getRequestHeaders().getFirst("Content-Type"));
            String path = exchange.getRequestURI().getPath();
            Map<String, String> query = query(exchange.getRequestURI().getRawQuery());
            JsonNode found = path.startsWith("/api/security/clients") ? security(json.readTree(text))
                    : client(exchange.getRequestMethod(), path.substring("/api/clients/".length()), query,
                            type.split(";")[0].equals("application/json") ? text : "");
            answer = String.valueOf(found);
        } catch (Refusal refusal) {
            status = refusal.status;
            answer = refusal.getMessage();
        } catch (Exception error) {
            status = 400;
            answer = String.valueOf(error);
        }
        byte[] bytes = answer.getBytes(StandardCharsets.UTF_8);
        exchange.sendResponseHeaders(status, bytes.length);
        exchange.getResponseBody().write(bytes);
        exchange.close();
    }

    static Map<String, String> query(String raw) {
        Map<String, String> query = new HashMap<>();
        for (String pair : raw == null ? new String[0] : raw.split("&")) {
            String[] parts = pair.split("=", 2);
            query.put(parts[0], parts.length > 1 ? URLDecoder.decode(parts[1], StandardCharsets.UTF_8) : "");
        }
        return query;
    }

    static JsonNode security(JsonNode body) throws Exception {
        String endpoint = body.get("endpoint").asText();
        JsonNode details = body.at("/tls/details");
        switch (body.at("/tls/mode").asText()) {
        case "psk":
            Server.security.add(SecurityInfo.newPreSharedKeyInfo(endpoint, details.get("identity").asText(),
                    Server.bytes(details.get("key").asText())));
            return json.createObjectNode();
        case "x509":
            Server.security.add(SecurityInfo.newX509CertInfo(endpoint));
            return json.createObjectNode();
        default:
            throw new Refusal(400, "no such mode");
        }
    }

    static JsonNode client(String method, String path, Map<String, String> query, String body) throws Exception {
        int slash = path.indexOf('/');
        String endpoint = slash < 0 ? path : path.substring(0, slash);
        Registration one = Server.server.getRegistrationService().getByEndpoint(endpoint);
        if (one == null) {
            throw new Refusal(400, "no registered client " + endpoint);
        }
        if (slash < 0) {
            ObjectNode shown = json.createObjectNode();
            shown.put("endpoint", endpoint).put("registrationId", one.getId()).put("lifetime", one.getLifeTimeInSec());
            shown.put("lwM2mVersion", one.getLwM2mVersion().toString()).put("queuemode", one.usesQueueMode());
            if (one.usesQueueMode()) {
                shown.put("sleeping", !Server.server.getPresenceService().isClientAwake(one));
            }
            return shown;
        }
        String below = path.substring(slash);
        if (method.equals("DELETE") && below.endsWith("/observe") && !query.containsKey("active")) {
            Server.server.getObservationService().cancelObservation(observation(one, below, query));
            return json.nullNode();
        }
        long timeout = Long.parseLong(query.getOrDefault("timeout", "5")) * 1000;
        return send(one, request(one, method, below, query, body), timeout);
    }

    /** Asks now, or when a device that sleeps is awake. */
    static JsonNode send(Registration one, DownlinkDeviceManagementRequest<? extends LwM2mResponse> request, long timeout)
            throws InterruptedException {
        if (!one.usesQueueMode() || Server.server.getPresenceService().isClientAwake(one)) {
            try {
                LwM2mResponse response = Server.server.send(one, request, timeout);
                if (response == null) {
                    throw new Refusal(504, "Request timeout");
                }
                return json.createObjectNode().put("status", response.getCode().toString())
                        .put("success", response.isSuccess()).put("failure", response.isFailure());
            } catch (ClientSleepingException asleep) {
                // It fell asleep a moment ago.
            }
        }
        waiting.put(one.getId(), new Waiting(request, timeout));
        return json.createObjectNode().put("ep", one.getEndpoint()).put("delayed", true);
    }

    static DownlinkDeviceManagementRequest<? extends LwM2mResponse> request(Registration one, String method, String path,
            Map<String, String> query, String body) throws Exception {
        ContentFormat format = format(query, "format");
        if (path.endsWith("/observe") && method.equals("DELETE")) {
            Observation observation = observation(one, path, query);
            return observation instanceof CompositeObservation
                    ? new CancelCompositeObservationRequest((CompositeObservation) observation)
                    : new CancelObservationRequest((SingleObservation) observation);
        }
        if (path.startsWith("/composite")) {
            return composite(method, query, body);
        }
        if (path.endsWith("/discover")) {
            return new DiscoverRequest(before(path, "/discover"));
        }
        if (path.endsWith("/attributes")) {
            List<String> pairs = new ArrayList<>();
            query.forEach((name, value) -> pairs.add(name + "=" + value));
            LwM2mAttributeSet set = new LwM2mAttributeSet(
                    new DefaultLwM2mAttributeParser().parseUriQuery(String.join("&", pairs)));
            return new WriteAttributesRequest(before(path, "/attributes"), set);
        }
        if (path.endsWith("/observe")) {
            return new ObserveRequest(format, before(path, "/observe"));
        }
        LwM2mPath target = new LwM2mPath(path);
        switch (method) {
        case "GET":
            return new ReadRequest(format, path);
        case "PUT":
            Mode mode = Boolean.parseBoolean(query.getOrDefault("replace", "true")) ? Mode.REPLACE : Mode.UPDATE;
            return new WriteRequest(mode, format, path, node(json.readTree(body)));
        case "POST":
            if (target.isObject()) {
                return new CreateRequest(format, path, (LwM2mObjectInstance) node(json.readTree(body)));
            }
            return new ExecuteRequest(path, body.isEmpty() ? null : body);
        case "DELETE":
            return new DeleteRequest(path);
        default:
            throw new Refusal(400, method);
        }
    }

    static DownlinkDeviceManagementRequest<? extends LwM2mResponse> composite(String method, Map<String, String> query,
            String body) throws Exception {
        ContentFormat nodes = format(query, "nodeformat");
        if (method.equals("PUT")) {
            Map<LwM2mPath, LwM2mNode> written = new HashMap<>();
            for (Iterator<Map.Entry<String, JsonNode>> each = json.readTree(body).fields(); each.hasNext();) {
                Map.Entry<String, JsonNode> entry = each.next();
                written.put(new LwM2mPath(entry.getKey()), node(entry.getValue()));
            }
            return new WriteCompositeRequest(nodes, written, null);
        }
        ContentFormat paths = format(query, "pathformat");
        return method.equals("GET") ? new ReadCompositeRequest(paths, nodes, query.get("paths").split(","))
                : new ObserveCompositeRequest(paths, nodes, query.get("paths").split(","));
    }

    /** The observation of a path, or of exactly these paths. */
    static Observation observation(Registration one, String path, Map<String, String> query) {
        for (Observation observation : Server.server.getObservationService().getObservations(one)) {
            boolean isMeant = query.containsKey("paths")
                    ? observation instanceof CompositeObservation && ((CompositeObservation) observation).getPaths()
                            .equals(LwM2mPath.getLwM2mPathList(Arrays.asList(query.get("paths").split(","))))
                    : observation instanceof SingleObservation && ((SingleObservation) observation).getPath()
                            .equals(new LwM2mPath(before(path, "/observe")));
            if (isMeant) {
                return observation;
            }
        }
        throw new Refusal(404, "no such observation");
    }

    static ContentFormat format(Map<String, String> query, String name) {
        return query.containsKey(name) ? ContentFormat.fromName(query.get(name).toUpperCase()) : null;
    }

    static String before(String path, String end) {
        return path.substring(0, path.length() - end.length());
    }

    static LwM2mNode node(JsonNode body) {
        if (body.has("resources")) {
            List<LwM2mResource> resources = new ArrayList<>();
            body.get("resources").forEach(resource -> resources.add((LwM2mResource) node(resource)));
            return body.has("id") ? new LwM2mObjectInstance(body.get("id").asInt(), resources)
                    : new LwM2mObjectInstance(resources);
        }
        if (!body.has("id") || !body.has("value") && !body.has("values")) {
            throw new Refusal(400, "no node: " + body);
        }
        int id = body.get("id").asInt();
        Type type = Type.valueOf(body.get("type").asText().toUpperCase());
        if (body.has("values")) {
            Map<Integer, Object> values = new HashMap<>();
            for (Iterator<Map.Entry<String, JsonNode>> each = body.get("values").fields(); each.hasNext();) {
                Map.Entry<String, JsonNode> entry = each.next();
                values.put(Integer.valueOf(entry.getKey()), value(type, entry.getValue()));
            }
            return LwM2mMultipleResource.newResource(id, values, type);
        }
        Object value = value(type, body.get("value"));
        return body.path("kind").asText().equals("resourceInstance") ? LwM2mResourceInstance.newInstance(id, value, type)
                : LwM2mSingleResource.newResource(id, value, type);
    }

    /** A value in the JSON that the demonstration takes for its type; any other is refused. */
    static Object value(Type type, JsonNode value) {
        switch (type) {
        case BOOLEAN:
            if (value.isBoolean()) {
                return value.asBoolean();
            }
            break;
        case TIME:
            if (value.isIntegralNumber()) {
                return new Date(value.asLong());
            }
            break;
        case OBJLNK:
            if (value.path("objectId").isInt() && value.path("objectInstanceId").isInt()) {
                return new ObjectLink(value.get("objectId").asInt(), value.get("objectInstanceId").asInt());
            }
            break;
        default:
            if (value.isTextual()) {
                return of(type, value.asText());
            }
        }
        throw new Refusal(500, value + " for " + type);
    }

    static Object of(Type type, String text) {
        switch (type) {
        case INTEGER:
            return Long.valueOf(text);
        case UNSIGNED_INTEGER:
            return ULong.valueOf(text);
        case FLOAT:
            return Double.valueOf(text);
        case OPAQUE:
            return Server.bytes(text);
        case STRING:
            return text;
        case CORELINK:
            try {
                return new DefaultLwM2mLinkParser().parseCoreLinkFormat(text.getBytes(StandardCharsets.UTF_8));
            } catch (LinkParseException error) {
                throw new Refusal(500, error.getMessage());
            }
        default:
            throw new Refusal(500, "no value of " + type);
        }
    }
}
