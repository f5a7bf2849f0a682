// The part of the REST interface of Leshan's demonstration server that an operator needs, on the reference implementation's
// libraries: the demonstration cannot be had as an artifact. Routes, parameters and bodies are those of its servlets.
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
import java.util.Collection;
import java.util.HashMap;
import java.util.Iterator;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Executors;
import org.eclipse.leshan.core.link.lwm2m.attributes.DefaultLwM2mAttributeParser;
import org.eclipse.leshan.core.link.lwm2m.attributes.LwM2mAttributeSet;
import org.eclipse.leshan.core.model.ResourceModel.Type;
import org.eclipse.leshan.core.node.*;
import org.eclipse.leshan.core.observation.CompositeObservation;
import org.eclipse.leshan.core.observation.Observation;
import org.eclipse.leshan.core.observation.SingleObservation;
import org.eclipse.leshan.core.request.*;
import org.eclipse.leshan.core.request.WriteRequest.Mode;
import org.eclipse.leshan.core.response.LwM2mResponse;
import org.eclipse.leshan.server.registration.Registration;
import org.eclipse.leshan.servers.security.SecurityInfo;

public class Rest {
    static final ObjectMapper json = new ObjectMapper();

    public static void main(String[] args) throws Exception {
        HttpServer http = HttpServer.create(new InetSocketAddress("127.0.0.1", Integer.parseInt(args[0])), 0);
        http.createContext("/api/", Rest::handle);
        http.setExecutor(Executors.newCachedThreadPool());
        http.start();
        Server.main(Arrays.copyOfRange(args, 1, args.length));
        System.exit(0);
    }

    static void handle(HttpExchange exchange) throws IOException {
        int status = 200;
        String answer;
        try {
            String text = new String(exchange.getRequestBody().readAllBytes(), StandardCharsets.UTF_8);
            JsonNode body = text.isEmpty() ? json.nullNode() : json.readTree(text);
            String path = exchange.getRequestURI().getPath();
            Map<String, String> query = query(exchange.getRequestURI().getRawQuery());
            JsonNode found = path.startsWith("/api/security/clients") ? security(body)
                    : client(exchange.getRequestMethod(), path.substring("/api/clients/".length()), query, body);
            status = found == null ? 404 : 200;
            answer = String.valueOf(found);
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
        JsonNode details = body.at("/tls/details");
        Server.security.add(SecurityInfo.newPreSharedKeyInfo(body.get("endpoint").asText(),
                details.get("identity").asText(), Server.bytes(details.get("key").asText())));
        return json.createObjectNode();
    }

    static JsonNode client(String method, String path, Map<String, String> query, JsonNode body) throws Exception {
        int slash = path.indexOf('/');
        String endpoint = slash < 0 ? path : path.substring(0, slash);
        Registration one = Server.server.getRegistrationService().getByEndpoint(endpoint);
        if (one == null) {
            return null;
        }
        if (slash < 0) {
            ObjectNode shown = json.createObjectNode();
            shown.put("endpoint", endpoint).put("registrationId", one.getId()).put("lifetime", one.getLifeTimeInSec());
            shown.put("lwM2mVersion", one.getLwM2mVersion().toString()).put("queuemode", one.usesQueueMode());
            shown.put("sleeping", one.usesQueueMode() && Server.server.getPresenceService() != null
                    && !Server.server.getPresenceService().isClientAwake(one));
            return shown;
        }
        return answer(ask(one, method, path.substring(slash), query, body));
    }

    static JsonNode answer(LwM2mResponse response) {
        ObjectNode answer = json.createObjectNode();
        if (response == null) {
            return answer.put("status", "timeout").put("success", false);
        }
        // What the device refused is an answer, too.
        return answer.put("status", response.getCode().toString()).put("success", true);
    }

    static LwM2mResponse ask(Registration one, String method, String path, Map<String, String> query, JsonNode body)
            throws Exception {
        ContentFormat format = query.containsKey("format") ? ContentFormat.fromName(query.get("format")) : null;
        if (path.startsWith("/composite")) {
            return composite(one, method, path, query, body);
        }
        if (path.endsWith("/discover")) {
            return send(one, new DiscoverRequest(path.substring(0, path.length() - "/discover".length())));
        }
        if (path.endsWith("/attributes")) {
            String target = path.substring(0, path.length() - "/attributes".length());
            List<String> pairs = new ArrayList<>();
            query.forEach((name, value) -> pairs.add(name + "=" + value));
            LwM2mAttributeSet set = new LwM2mAttributeSet(
                    new DefaultLwM2mAttributeParser().parseUriQuery(String.join("&", pairs)));
            return send(one, new WriteAttributesRequest(target, set));
        }
        if (path.endsWith("/observe")) {
            String target = path.substring(0, path.length() - "/observe".length());
            if (method.equals("POST")) {
                return send(one, new ObserveRequest(format, target));
            }
            for (Observation observation : Server.server.getObservationService().getObservations(one)) {
                boolean meant = observation instanceof SingleObservation
                        && ((SingleObservation) observation).getPath().toString().equals(target);
                if (meant && query.containsKey("active")) {
                    return send(one, new CancelObservationRequest((SingleObservation) observation));
                }
                if (meant) {
                    Server.server.getObservationService().cancelObservation(observation);
                    return new org.eclipse.leshan.core.response.DeleteResponse(
                            org.eclipse.leshan.core.ResponseCode.DELETED, null);
                }
            }
            throw new IllegalArgumentException("no such observation");
        }
        LwM2mPath target = new LwM2mPath(path);
        switch (method) {
        case "GET":
            return send(one, new ReadRequest(format, path));
        case "PUT":
            if (target.isObjectInstance()) {
                Mode mode = query.getOrDefault("replace", "true").equals("true") ? Mode.REPLACE : Mode.UPDATE;
                return send(one, new WriteRequest(mode, format, target.getObjectId(), target.getObjectInstanceId(),
                        resources(body)));
            }
            return send(one, new WriteRequest(Mode.REPLACE, format, path, node(body)));
        case "POST":
            if (target.isObject()) {
                return send(one, new CreateRequest(format, target.getObjectId(),
                        new LwM2mObjectInstance(body.get("id").asInt(), resources(body))));
            }
            return send(one, new ExecuteRequest(path));
        case "DELETE":
            return send(one, new DeleteRequest(path));
        default:
            throw new IllegalArgumentException(method);
        }
    }

    static LwM2mResponse composite(Registration one, String method, String path, Map<String, String> query,
            JsonNode body) throws Exception {
        ContentFormat pack = ContentFormat.SENML_CBOR;
        String[] paths = query.getOrDefault("paths", "").split(",");
        if (method.equals("PUT")) {
            Map<LwM2mPath, LwM2mNode> nodes = new HashMap<>();
            for (Iterator<Map.Entry<String, JsonNode>> each = body.fields(); each.hasNext();) {
                Map.Entry<String, JsonNode> entry = each.next();
                nodes.put(new LwM2mPath(entry.getKey()), node(entry.getValue()));
            }
            return send(one, new WriteCompositeRequest(pack, nodes, null));
        }
        if (method.equals("GET")) {
            return send(one, new ReadCompositeRequest(pack, pack, paths));
        }
        if (method.equals("POST")) {
            return send(one, new ObserveCompositeRequest(pack, pack, paths));
        }
        for (Observation observation : Server.server.getObservationService().getObservations(one)) {
            if (observation instanceof CompositeObservation) {
                return send(one, new CancelCompositeObservationRequest((CompositeObservation) observation));
            }
        }
        throw new IllegalArgumentException("no such observation");
    }

    static <T extends LwM2mResponse> T send(Registration one, DownlinkDeviceManagementRequest<T> request)
            throws InterruptedException {
        return Server.server.send(one, request, 100_000);
    }

    static Collection<LwM2mResource> resources(JsonNode body) {
        List<LwM2mResource> resources = new ArrayList<>();
        for (JsonNode resource : body.get("resources")) {
            resources.add((LwM2mResource) node(resource));
        }
        return resources;
    }

    static LwM2mNode node(JsonNode body) {
        int id = body.get("id").asInt();
        Type type = Type.valueOf(body.get("type").asText().toUpperCase());
        switch (body.get("kind").asText()) {
        case "singleResource":
            return LwM2mSingleResource.newResource(id, value(type, body.get("value").asText()), type);
        case "resourceInstance":
            return LwM2mResourceInstance.newInstance(id, value(type, body.get("value").asText()), type);
        default:
            Map<Integer, Object> values = new HashMap<>();
            for (Iterator<Map.Entry<String, JsonNode>> each = body.get("values").fields(); each.hasNext();) {
                Map.Entry<String, JsonNode> entry = each.next();
                values.put(Integer.valueOf(entry.getKey()), value(type, entry.getValue().asText()));
            }
            return LwM2mMultipleResource.newResource(id, values, type);
        }
    }

    static Object value(Type type, String text) {
        switch (type) {
        case INTEGER:
            return Long.valueOf(text);
        case FLOAT:
            return Double.valueOf(text);
        case BOOLEAN:
            return Boolean.valueOf(text);
        case OPAQUE:
            return Server.bytes(text);
        case TIME:
            return new java.util.Date(Long.parseLong(text) * 1000);
        case OBJLNK:
            return ObjectLink.decodeFromString(text);
        default:
            return text;
        }
    }
}
