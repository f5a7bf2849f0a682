// An LwM2M client on the reference implementation's libraries, driven by lines on standard input, for the tests.
//
// java -cp LIBRARIES Client.java ENDPOINT URI[,BOOTSTRAP_URI] LIFETIME KIND SECURITY [SETTING=VALUE…]
// With two URIs it has an account of the bootstrap server besides that of the server, with the same security.
// KIND is server (or U), queue (or UQ) or bootstrap; with `,report` behind it the client reports by itself every two seconds.
// SECURITY is one of these, each part but the identity, the usage and the name in hexadecimal, keys and certificates of DER:
//   nosec
//   psk,IDENTITY,KEY
//   rpk,PUBLIC,PRIVATE,SERVER
//   x509,CERTIFICATE,PRIVATE,SERVER,USAGE,NAME[,ANCHOR]
//   pem,CERTIFICATE,PRIVATE,AUTHORITY, which are files in PEM; the authority is that of the server
// The settings are Californium's, as in its file of properties.
// Prints one line for each event. Commands: `temperature VALUE` changes /3303/0/5700, `update` sends an Update, `resume`
// does so after an abbreviated handshake, `collect PATH …` keeps values with the time, `report FORMAT` sends those, `report FORMAT
// PATH …` sends values as they are, `stop` de-registers and ends.

import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.StringReader;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Base64;
import java.util.Date;
import java.util.EnumSet;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import org.eclipse.californium.elements.config.Configuration;
import org.eclipse.leshan.client.LeshanClient;
import org.eclipse.leshan.client.LeshanClientBuilder;
import org.eclipse.leshan.client.engine.DefaultRegistrationEngineFactory;
import org.eclipse.leshan.client.object.Security;
import org.eclipse.leshan.client.observer.LwM2mClientObserverAdapter;
import org.eclipse.leshan.client.resource.BaseInstanceEnabler;
import org.eclipse.leshan.client.resource.ObjectsInitializer;
import org.eclipse.leshan.client.resource.SimpleInstanceEnabler;
import org.eclipse.leshan.client.send.ManualDataSender;
import org.eclipse.leshan.client.servers.LwM2mServer;
import org.eclipse.leshan.core.ResponseCode;
import org.eclipse.leshan.core.model.ObjectLoader;
import org.eclipse.leshan.core.model.ObjectModel;
import org.eclipse.leshan.core.model.ResourceModel;
import org.eclipse.leshan.core.model.ResourceModel.Operations;
import org.eclipse.leshan.core.model.ResourceModel.Type;
import org.eclipse.leshan.core.model.StaticModel;
import org.eclipse.leshan.core.node.LwM2mPath;
import org.eclipse.leshan.core.node.LwM2mResource;
import org.eclipse.leshan.core.node.LwM2mSingleResource;
import org.eclipse.leshan.core.request.*;
import org.eclipse.leshan.core.request.argument.Arguments;
import org.eclipse.leshan.core.response.*;
import org.eclipse.leshan.core.security.util.SecurityUtil;
import org.eclipse.leshan.core.util.Hex;
import org.eclipse.leshan.core.util.datatype.ULong;
import org.eclipse.leshan.transport.californium.client.endpoint.CaliforniumClientEndpointsProvider;
import org.eclipse.leshan.transport.californium.client.endpoint.coap.CoapClientProtocolProvider;
import org.eclipse.leshan.transport.californium.client.endpoint.coaps.CoapsClientProtocolProvider;

public class Client {
    static void print(String line) {
        System.out.println(line.replace('\n', ' '));
        System.out.flush();
    }

    public static void main(String[] args) throws Exception {
        List<ObjectModel> models = ObjectLoader.loadAllDefault();
        models.add(new ObjectModel(3303, "Temperature", "", "1.0", true, false,
                new ResourceModel(5700, "", Operations.R, false, true, Type.FLOAT, "", "", ""),
                new ResourceModel(5701, "", Operations.R, false, false, Type.STRING, "", "", "")));
        models.add(new ObjectModel(16, "Portfolio", "", "1.0", true, false,
                new ResourceModel(0, "", Operations.RW, true, true, Type.STRING, "", "", "")));
        ObjectsInitializer initializer = new ObjectsInitializer(new StaticModel(models));

        String[] uris = args[1].split(",");
        List<String> kind = Arrays.asList(args[3].split(","));
        boolean bootstrap = kind.contains("bootstrap");
        String[] security = args[4].split(",");
        Security account = security(uris[0], bootstrap, security);
        if (uris.length > 1) {
            initializer.setInstancesForObject(0, account, security(uris[1], true, security));
        } else {
            initializer.setInstancesForObject(0, account);
        }
        var serverObject = new org.eclipse.leshan.client.object.Server(123, Long.parseLong(args[2]));
        if (bootstrap) {
            initializer.setClassForObject(1, org.eclipse.leshan.client.object.Server.class);
        } else {
            initializer.setInstancesForObject(1, serverObject);
        }
        Temperature temperature = new Temperature();
        initializer.setInstancesForObject(3, new DeviceObject());
        // With values that Leshan makes up by their types.
        initializer.setDummyInstancesForObject(4);
        initializer.setInstancesForObject(6, new SimpleInstanceEnabler(0,
                Map.of(0, 43.5723, 1, 153.2176, 5, new Date(1_700_000_000_000L))));
        initializer.setInstancesForObject(16, new SimpleInstanceEnabler(0, Map.of(0, Map.of(0, "Host Device ID #1",
                1, "Host Manufacturer #1", 2, "Host Model #1", 3, "Host Software #1"))));
        initializer.setInstancesForObject(3303, temperature);

        LeshanClientBuilder builder = new LeshanClientBuilder(args[0]);
        builder.setObjects(initializer.createAll());
        if (!bootstrap) {
            // Default Minimum Period and Default Maximum Period.
            serverObject.write(LwM2mServer.SYSTEM, false, 2, LwM2mSingleResource.newIntegerResource(2, 1));
            serverObject.write(LwM2mServer.SYSTEM, false, 3, LwM2mSingleResource.newIntegerResource(3, 10));
        }
        ManualDataSender collected = new ManualDataSender();
        builder.setDataSenders(collected);
        if (kind.contains("queue") || kind.contains("UQ")) {
            builder.setRegistrationEngineFactory(new DefaultRegistrationEngineFactory().setQueueMode(true));
        }
        if (security.length > 6) {
            builder.setTrustStore(List.of(SecurityUtil.certificate.decode(bytes(security[6]))));
        }
        CaliforniumClientEndpointsProvider.Builder endpoints = new CaliforniumClientEndpointsProvider.Builder(
                new CoapClientProtocolProvider(), new CoapsClientProtocolProvider());
        Properties settings = new Properties();
        settings.load(new StringReader(String.join("\n", Arrays.copyOfRange(args, 5, args.length))));
        Configuration configuration = endpoints.createDefaultConfiguration();
        configuration.add(settings);
        endpoints.setConfiguration(configuration);
        builder.setEndpointsProviders(endpoints.build());
        LeshanClient client = builder.build();
        client.addObserver(new Events());
        client.start();
        print("ready");
        // What it reports would keep a server from taking it for asleep.
        if (kind.contains("report") && !kind.contains("UQ")) {
            reportByItself(client);
        }

        BufferedReader input = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line = input.readLine(); line != null; line = input.readLine()) {
            String[] words = line.split(" ");
            if (words[0].equals("temperature")) {
                temperature.set(Double.parseDouble(words[1]));
            } else if (words[0].equals("update")) {
                client.triggerRegistrationUpdate();
            } else if (words[0].equals("resume")) {
                LwM2mServer server = client.getRegisteredServers().values().iterator().next();
                client.getEndpoint(server).forceReconnection(server, true);
                client.triggerRegistrationUpdate();
            } else if (words[0].equals("collect")) {
                for (int at = 1; at < words.length; at++) {
                    collected.collectData(List.of(new LwM2mPath(words[at])));
                }
            } else if (words[0].equals("report")) {
                LwM2mServer server = client.getRegisteredServers().values().iterator().next();
                ContentFormat format = ContentFormat.fromName(words[1]);
                if (words.length == 2) {
                    collected.sendCollectedData(server, format, 20_000, false);
                } else {
                    List<String> paths = Arrays.asList(words).subList(2, words.length);
                    SendResponse response = client.getSendService().sendData(server, format, paths, 20_000);
                    print("reported " + (response == null ? "timeout" : response.getCode().getCode()));
                }
            } else if (words[0].equals("stop")) {
                break;
            }
        }
        client.destroy(true);
        print("stopped");
        System.exit(0);
    }

    static void reportByItself(LeshanClient client) {
        Thread reports = new Thread(() -> {
            while (true) {
                try {
                    Thread.sleep(2000);
                    for (LwM2mServer server : client.getRegisteredServers().values()) {
                        client.getSendService().sendData(server, ContentFormat.SENML_CBOR,
                                List.of("/1/0/1", "/3/0/11/0"), 10_000);
                    }
                } catch (Exception error) {
                    print("report-failed " + error);
                }
            }
        });
        reports.setDaemon(true);
        reports.start();
    }

    static byte[] bytes(String digits) {
        return Hex.decodeHex(digits.toCharArray());
    }

    /** What is in a file of PEM with one section. */
    static byte[] der(String file) throws IOException {
        List<String> lines = new ArrayList<>(Files.readAllLines(Path.of(file)));
        lines.removeIf(line -> line.startsWith("-----"));
        return Base64.getMimeDecoder().decode(String.join("", lines));
    }

    static Security security(String uri, boolean bootstrap, String[] parts) throws IOException {
        switch (parts[0]) {
        case "psk":
            byte[] identity = parts[1].getBytes(StandardCharsets.UTF_8);
            byte[] key = bytes(parts[2]);
            return bootstrap ? Security.pskBootstrap(uri, identity, key) : Security.psk(uri, 123, identity, key);
        case "rpk":
        case "x509":
            byte[] own = bytes(parts[1]);
            byte[] secret = bytes(parts[2]);
            byte[] server = bytes(parts[3]);
            if (parts[0].equals("rpk")) {
                return bootstrap ? Security.rpkBootstrap(uri, own, secret, server)
                        : Security.rpk(uri, 123, own, secret, server);
            }
            ULong usage = ULong.valueOf(parts[4]);
            return bootstrap ? Security.x509Bootstrap(uri, own, secret, server, usage, parts[5])
                    : Security.x509(uri, 123, own, secret, server, usage, parts[5]);
        case "pem":
            byte[] certificate = der(parts[1]);
            byte[] privateKey = der(parts[2]);
            byte[] authority = der(parts[3]);
            ULong anchor = ULong.valueOf(2);
            return bootstrap ? Security.x509Bootstrap(uri, certificate, privateKey, authority, anchor)
                    : Security.x509(uri, 123, certificate, privateKey, authority, anchor);
        default:
            return bootstrap ? Security.noSecBootstrap(uri) : Security.noSec(uri, 123);
        }
    }

    public static class Temperature extends BaseInstanceEnabler {
        private volatile double value = 20.5;

        void set(double next) {
            value = next;
            fireResourceChange(5700);
        }

        @Override
        public List<Integer> getAvailableResourceIds(ObjectModel model) {
            return List.of(5700, 5701);
        }

        @Override
        public ReadResponse read(LwM2mServer server, int resource) {
            switch (resource) {
            case 5700:
                return ReadResponse.success(resource, value);
            case 5701:
                return ReadResponse.success(resource, "Cel");
            default:
                return super.read(server, resource);
            }
        }
    }

    public static class DeviceObject extends BaseInstanceEnabler {
        private Date time = new Date(1_700_000_000_000L);
        private String offset = "+00:00";
        private String zone = "Etc/UTC";

        @Override
        public List<Integer> getAvailableResourceIds(ObjectModel model) {
            return List.of(0, 1, 2, 3, 4, 6, 7, 8, 9, 11, 13, 14, 15, 16);
        }

        @Override
        public ReadResponse read(LwM2mServer server, int resource) {
            switch (resource) {
            case 0:
                return ReadResponse.success(resource, "Reference Manufacturer");
            case 1:
                return ReadResponse.success(resource, "Model 500");
            case 2:
                return ReadResponse.success(resource, "LT-500-000-0001");
            case 3:
                return ReadResponse.success(resource, "1.0.0");
            case 6:
                return ReadResponse.success(resource, Map.of(0, 1L, 1, 5L), Type.INTEGER);
            case 7:
                return ReadResponse.success(resource, Map.of(0, 3800L, 1, 5000L), Type.INTEGER);
            case 8:
                return ReadResponse.success(resource, Map.of(0, 125L, 1, 900L), Type.INTEGER);
            case 9:
                return ReadResponse.success(resource, 92);
            case 11:
                return ReadResponse.success(resource, Map.of(0, 0L), Type.INTEGER);
            case 13:
                return ReadResponse.success(resource, time);
            case 14:
                return ReadResponse.success(resource, offset);
            case 15:
                return ReadResponse.success(resource, zone);
            case 16:
                return ReadResponse.success(resource, "U");
            default:
                return super.read(server, resource);
            }
        }

        @Override
        public WriteResponse write(LwM2mServer server, boolean replace, int resource, LwM2mResource value) {
            switch (resource) {
            case 13:
                time = (Date) value.getValue();
                break;
            case 14:
                offset = (String) value.getValue();
                break;
            case 15:
                zone = (String) value.getValue();
                break;
            default:
                return super.write(server, replace, resource, value);
            }
            print("written /3/0/" + resource + " " + value.getValue());
            fireResourceChange(resource);
            return WriteResponse.success();
        }

        @Override
        public ExecuteResponse execute(LwM2mServer server, int resource, Arguments arguments) {
            print("executed /3/0/" + resource + " " + arguments.serialize());
            if (resource != 4) {
                return super.execute(server, resource, arguments);
            }
            // As Leshan's own Device does it.
            Thread reboot = new Thread(() -> {
                try {
                    Thread.sleep(500);
                } catch (InterruptedException error) {
                    return;
                }
                getLwM2mClient().stop(true);
                getLwM2mClient().start();
            });
            reboot.start();
            return ExecuteResponse.success();
        }
    }

    static class Events extends LwM2mClientObserverAdapter {
        @Override
        public void onBootstrapSuccess(LwM2mServer server, BootstrapRequest request) {
            print("bootstrapped");
        }

        @Override
        public void onBootstrapFailure(LwM2mServer server, BootstrapRequest request, ResponseCode code, String message,
                Exception cause) {
            print("bootstrap-failed " + code + " " + message + " " + cause);
        }

        @Override
        public void onBootstrapTimeout(LwM2mServer server, BootstrapRequest request) {
            print("bootstrap-failed timeout");
        }

        @Override
        public void onRegistrationSuccess(LwM2mServer server, RegisterRequest request, String id) {
            print("registered " + id);
        }

        @Override
        public void onRegistrationFailure(LwM2mServer server, RegisterRequest request, ResponseCode code,
                String message, Exception cause) {
            print("register-failed " + code + " " + message + " " + cause);
        }

        @Override
        public void onRegistrationTimeout(LwM2mServer server, RegisterRequest request) {
            print("register-failed timeout");
        }

        @Override
        public void onUpdateSuccess(LwM2mServer server, UpdateRequest request) {
            print("updated");
        }

        @Override
        public void onUpdateFailure(LwM2mServer server, UpdateRequest request, ResponseCode code, String message,
                Exception cause) {
            print("update-failed " + code + " " + message + " " + cause);
        }

        @Override
        public void onDeregistrationSuccess(LwM2mServer server, DeregisterRequest request) {
            print("deregistered");
        }
    }
}
