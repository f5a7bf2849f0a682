// An LwM2M server on the reference implementation's libraries, driven by lines on standard input, for the tests.
//
// java -cp LIBRARIES Server.java COAP_PORT COAPS_PORT KEY [SETTING=VALUE…]
// KEY is empty, or PRIVATE,CERTIFICATE[,ANCHOR]: for raw public keys and certificates its own, and the authority of those of devices, in
// hexadecimal of DER; without one any is trusted, as the demonstration does that is given none. The settings are Californium's, as in its file of properties; for how many milliseconds a device in queue mode is
// taken for awake is the property `awake` of Java.
// Prints `ready`, then one line for each event and one `answer CODE …` for each command:
//   psk ENDPOINT IDENTITY HEXKEY
//   rpk ENDPOINT HEXKEY
//   x509 ENDPOINT
//   read|observe|discover|delete|cancel ENDPOINT PATH [FORMAT]
//   write ENDPOINT PATH FORMAT text|integer|float|boolean|opaque VALUE
//   update|replace ENDPOINT INSTANCE FORMAT RESOURCE TYPE VALUE …
//   create ENDPOINT OBJECT INSTANCE RESOURCE TYPE VALUE …
//   execute ENDPOINT PATH [ARGUMENTS]
//   attributes ENDPOINT PATH QUERY
//   read-composite|observe-composite|cancel-composite ENDPOINT FORMAT PATH …
//   write-composite ENDPOINT FORMAT PATH TYPE VALUE …

import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.StringReader;
import java.net.InetSocketAddress;
import java.nio.charset.StandardCharsets;
import java.security.cert.X509Certificate;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import org.eclipse.californium.elements.config.Configuration;
import org.eclipse.leshan.core.endpoint.Protocol;
import org.eclipse.leshan.core.link.lwm2m.attributes.DefaultLwM2mAttributeParser;
import org.eclipse.leshan.core.link.lwm2m.attributes.LwM2mAttributeSet;
import org.eclipse.leshan.core.model.ObjectLoader;
import org.eclipse.leshan.core.model.ObjectModel;
import org.eclipse.leshan.core.model.ResourceModel;
import org.eclipse.leshan.core.model.ResourceModel.Operations;
import org.eclipse.leshan.core.model.ResourceModel.Type;
import org.eclipse.leshan.core.node.*;
import org.eclipse.leshan.core.observation.CompositeObservation;
import org.eclipse.leshan.core.observation.Observation;
import org.eclipse.leshan.core.observation.SingleObservation;
import org.eclipse.leshan.core.request.*;
import org.eclipse.leshan.core.request.WriteRequest.Mode;
import org.eclipse.leshan.core.response.*;
import org.eclipse.leshan.core.security.util.SecurityUtil;
import org.eclipse.leshan.core.util.Hex;
import org.eclipse.leshan.server.LeshanServer;
import org.eclipse.leshan.server.LeshanServerBuilder;
import org.eclipse.leshan.server.model.VersionedModelProvider;
import org.eclipse.leshan.server.observation.ObservationListener;
import org.eclipse.leshan.server.queue.PresenceListener;
import org.eclipse.leshan.server.queue.StaticClientAwakeTimeProvider;
import org.eclipse.leshan.server.registration.Registration;
import org.eclipse.leshan.server.registration.RegistrationListener;
import org.eclipse.leshan.server.registration.RegistrationUpdate;
import org.eclipse.leshan.server.send.SendListener;
import org.eclipse.leshan.servers.security.InMemorySecurityStore;
import org.eclipse.leshan.servers.security.SecurityInfo;
import org.eclipse.leshan.transport.californium.server.endpoint.CaliforniumServerEndpointsProvider;
import org.eclipse.leshan.transport.californium.server.endpoint.coap.CoapServerProtocolProvider;
import org.eclipse.leshan.transport.californium.server.endpoint.coaps.CoapsServerProtocolProvider;

public class Server {
    static final InMemorySecurityStore security = new InMemorySecurityStore();
    static LeshanServer server;

    static void print(String line) {
        System.out.println(line.replace('\n', ' '));
        System.out.flush();
    }

    public static void main(String[] args) throws Exception {
        start(args);
        obey();
    }

    static void start(String[] args) throws Exception {
        CaliforniumServerEndpointsProvider.Builder endpoints = new CaliforniumServerEndpointsProvider.Builder(
                new CoapServerProtocolProvider(), new CoapsServerProtocolProvider());
        Properties settings = new Properties();
        settings.load(new StringReader(String.join("\n", Arrays.copyOfRange(args, 3, args.length))));
        Configuration configuration = endpoints.createDefaultConfiguration();
        configuration.add(settings);
        endpoints.setConfiguration(configuration);
        endpoints.addEndpoint(new InetSocketAddress("127.0.0.1", Integer.parseInt(args[0])), Protocol.COAP);
        endpoints.addEndpoint(new InetSocketAddress("127.0.0.1", Integer.parseInt(args[1])), Protocol.COAPS);

        List<ObjectModel> models = ObjectLoader.loadAllDefault();
        models.add(temperature("1.0"));
        models.add(temperature("1.1"));
        LeshanServerBuilder builder = new LeshanServerBuilder();
        builder.setObjectModelProvider(new VersionedModelProvider(models));
        builder.setSecurityStore(security);
        builder.setClientAwakeTimeProvider(new StaticClientAwakeTimeProvider(Integer.getInteger("awake", 93_000)));
        if (!args[2].isEmpty()) {
            String[] key = args[2].split(",");
            builder.setPrivateKey(SecurityUtil.privateKey.decode(bytes(key[0])));
            builder.setCertificateChain(SecurityUtil.certificateChain.decode(bytes(key[1])));
            builder.setTrustedCertificates(
                    key.length > 2 ? SecurityUtil.certificateChain.decode(bytes(key[2])) : new X509Certificate[0]);
        }
        builder.setEndpointsProviders(endpoints.build());
        server = builder.build();
        listen();
        listenToReports();
        server.start();
    }

    /** Carries out lines until there are no more. */
    static void obey() throws Exception {
        print("ready");
        BufferedReader input = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line = input.readLine(); line != null; line = input.readLine()) {
            try {
                print("answer " + command(line.split(" ")));
            } catch (Exception error) {
                print("answer error " + error);
            }
        }
        server.destroy();
    }

    static ObjectModel temperature(String version) {
        return new ObjectModel(3303, "Temperature", "", version, true, false,
                resource(5700, Operations.R, Type.FLOAT, true), resource(5701, Operations.R, Type.STRING, false),
                resource(5601, Operations.R, Type.FLOAT, false), resource(5602, Operations.R, Type.FLOAT, false),
                resource(5603, Operations.R, Type.FLOAT, false), resource(5604, Operations.R, Type.FLOAT, false),
                resource(5605, Operations.E, Type.NONE, false));
    }

    static ResourceModel resource(int id, Operations operations, Type type, boolean mandatory) {
        return new ResourceModel(id, "", operations, false, mandatory, type, "", "", "");
    }

    static void listen() {
        server.getRegistrationService().addListener(new RegistrationListener() {
            @Override
            public void registered(Registration one, Registration previous, Collection<Observation> former) {
                print("registered " + one.getEndpoint() + " lifetime=" + one.getLifeTimeInSec() + " version="
                        + one.getLwM2mVersion() + " binding=" + one.getBindingMode() + " identity="
                        + one.getClientTransportData().getIdentity() + " objects="
                        + Arrays.toString(one.getSortedObjectLinks()));
            }

            @Override
            public void updated(RegistrationUpdate update, Registration one, Registration previous) {
                print("updated " + one.getEndpoint() + " lifetime=" + one.getLifeTimeInSec() + " given="
                        + update.getLifeTimeInSec() + " port=" + one.getPort());
            }

            @Override
            public void unregistered(Registration one, Collection<Observation> observations, boolean expired,
                    Registration next) {
                print("unregistered " + one.getEndpoint() + " expired=" + expired);
            }
        });
        server.getPresenceService().addListener(new PresenceListener() {
            @Override
            public void onAwake(Registration one) {
                print("awake " + one.getEndpoint());
            }

            @Override
            public void onSleeping(Registration one) {
                print("asleep " + one.getEndpoint());
            }
        });
        server.getObservationService().addListener(new ObservationListener() {
            @Override
            public void newObservation(Observation observation, Registration one) {
            }

            @Override
            public void cancelled(Observation observation) {
            }

            @Override
            public void onResponse(SingleObservation observation, Registration one, ObserveResponse response) {
                print("notified " + one.getEndpoint() + " " + observation.getPath() + " " + response.getCode().getCode()
                        + " " + response.getContent());
            }

            @Override
            public void onResponse(CompositeObservation observation, Registration one,
                    ObserveCompositeResponse response) {
                print("notified-composite " + one.getEndpoint() + " " + response.getCode().getCode() + " "
                        + response.getContent());
            }

            @Override
            public void onError(Observation observation, Registration one, Exception error) {
                print("notification-error " + one.getEndpoint() + " " + error);
            }
        });
    }

    static void listenToReports() {
        server.getSendService().addListener(new SendListener() {
            @Override
            public void dataReceived(Registration one, TimestampedLwM2mNodes data, SendRequest request) {
                print("reported " + one.getEndpoint() + " " + data.getFlattenNodes());
            }

            @Override
            public void onError(Registration one, String message, Exception error) {
                print("report-error " + message + " " + error);
            }
        });
    }

    static byte[] bytes(String digits) {
        return Hex.decodeHex(digits.toCharArray());
    }

    static String command(String[] words) throws Exception {
        switch (words[0]) {
        case "psk":
            security.add(SecurityInfo.newPreSharedKeyInfo(words[1], words[2], bytes(words[3])));
            return "stored";
        case "rpk":
            security.add(SecurityInfo.newRawPublicKeyInfo(words[1], SecurityUtil.publicKey.decode(bytes(words[2]))));
            return "stored";
        case "x509":
            security.add(SecurityInfo.newX509CertInfo(words[1]));
            return "stored";
        default:
        }
        Registration one = server.getRegistrationService().getByEndpoint(words[1]);
        if (one == null) {
            return "unknown " + words[1];
        }
        String path = words[2];
        String[] paths = Arrays.copyOfRange(words, Math.min(3, words.length), words.length);
        switch (words[0]) {
        case "read-composite":
            ReadCompositeResponse several = send(one, new ReadCompositeRequest(format(words, 2), format(words, 2), paths));
            return shown(several, several == null ? null : several.getContent());
        case "observe-composite":
            ObserveCompositeResponse begun = send(one,
                    new ObserveCompositeRequest(format(words, 2), format(words, 2), paths));
            return shown(begun, begun == null ? null : begun.getContent());
        case "cancel-composite":
            for (Observation observation : server.getObservationService().getObservations(one)) {
                if (observation instanceof CompositeObservation) {
                    return shown(send(one, new CancelCompositeObservationRequest((CompositeObservation) observation)), "");
                }
            }
            return "error no such observation";
        case "write-composite":
            Map<String, Object> values = new HashMap<>();
            for (int at = 3; at + 2 < words.length; at += 3) {
                values.put(words[at], value(words[at + 1], words[at + 2]));
            }
            return shown(send(one, new WriteCompositeRequest(format(words, 2), values)), "");
        case "read":
            ReadResponse read = send(one, new ReadRequest(format(words, 3), path));
            return shown(read, read == null ? null : read.getContent());
        case "observe":
            ObserveResponse observed = send(one, new ObserveRequest(format(words, 3), path));
            return shown(observed, observed == null ? null : observed.getContent());
        case "cancel":
            return "cancelled " + server.getObservationService().cancelObservations(one, path);
        case "discover":
            DiscoverResponse discovered = send(one, new DiscoverRequest(path));
            return shown(discovered, discovered == null ? null : Arrays.toString(discovered.getObjectLinks()));
        case "delete":
            return shown(send(one, new DeleteRequest(path)), "");
        case "execute":
            return shown(send(one, words.length > 3 ? new ExecuteRequest(path, words[3]) : new ExecuteRequest(path)),
                    "");
        case "write":
            LwM2mPath target = new LwM2mPath(path);
            LwM2mNode node = target.isResourceInstance()
                    ? LwM2mResourceInstance.newInstance(target.getResourceInstanceId(), value(words[4], words[5]),
                            type(words[4]))
                    : single(target.getResourceId(), words[4], words[5]);
            return shown(send(one, new WriteRequest(Mode.REPLACE, format(words, 3), path, node)), "");
        case "update":
        case "replace":
            LwM2mPath instance = new LwM2mPath(path);
            return shown(send(one,
                    new WriteRequest(words[0].equals("update") ? Mode.UPDATE : Mode.REPLACE, format(words, 3),
                            instance.getObjectId(), instance.getObjectInstanceId(), resources(words, 4))),
                    "");
        case "create":
            CreateResponse created = send(one, new CreateRequest(new LwM2mPath(path).getObjectId(),
                    new LwM2mObjectInstance(Integer.parseInt(words[3]), resources(words, 4))));
            return shown(created, created == null ? null : created.getLocation());
        case "attributes":
            return shown(send(one, new WriteAttributesRequest(path,
                    new LwM2mAttributeSet(new DefaultLwM2mAttributeParser().parseUriQuery(words[3])))), "");
        default:
            return "error no such command";
        }
    }

    static <T extends LwM2mResponse> T send(Registration one, DownlinkDeviceManagementRequest<T> request)
            throws InterruptedException {
        return server.send(one, request, 20_000);
    }

    static String shown(LwM2mResponse response, Object content) {
        if (response == null) {
            return "timeout";
        }
        return response.getCode().getCode() + " "
                + (response.isSuccess() ? String.valueOf(content) : String.valueOf(response.getErrorMessage()));
    }

    static ContentFormat format(String[] words, int at) {
        return words.length > at && !words[at].equals("-") ? ContentFormat.fromName(words[at]) : null;
    }

    static List<LwM2mResource> resources(String[] words, int from) {
        List<LwM2mResource> resources = new ArrayList<>();
        for (int at = from; at + 2 < words.length; at += 3) {
            resources.add(single(Integer.parseInt(words[at]), words[at + 1], words[at + 2]));
        }
        return resources;
    }

    static LwM2mSingleResource single(int id, String type, String text) {
        return LwM2mSingleResource.newResource(id, value(type, text), type(type));
    }

    static Type type(String name) {
        return name.equals("text") ? Type.STRING : Type.valueOf(name.toUpperCase());
    }

    static Object value(String type, String text) {
        switch (type) {
        case "integer":
            return Long.valueOf(text);
        case "float":
            return Double.valueOf(text);
        case "boolean":
            return Boolean.valueOf(text);
        case "opaque":
            return bytes(text);
        default:
            return text;
        }
    }
}
