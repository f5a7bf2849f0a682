// A bootstrap server and an LwM2M server on the reference implementation's libraries, both under OSCORE, for the tests.
//
// java -cp LIBRARIES Oscore.java BOOTSTRAP_PORT PORT ENDPOINT FORMAT BOOTSTRAP_SECRET SECRET
// The device has the Sender IDs 03 and 01, the servers 04 and 02; secrets are in hexadecimal. FORMAT is that of the bootstrap, which
// gives the device the account of the LwM2M server. Prints `ready`, and a line for each thing that the device did or was asked for.

import java.net.URI;
import java.util.Collection;
import java.util.EnumSet;
import java.util.List;
import org.eclipse.leshan.core.SecurityMode;
import org.eclipse.leshan.core.model.ObjectLoader;
import org.eclipse.leshan.core.observation.Observation;
import org.eclipse.leshan.core.oscore.OscoreSetting;
import org.eclipse.leshan.core.request.*;
import org.eclipse.leshan.core.util.Hex;
import org.eclipse.leshan.server.LeshanServer;
import org.eclipse.leshan.server.LeshanServerBuilder;
import org.eclipse.leshan.server.bootstrap.*;
import org.eclipse.leshan.server.californium.bootstrap.endpoint.CaliforniumBootstrapServerEndpointsProvider;
import org.eclipse.leshan.server.californium.bootstrap.endpoint.coap.CoapBootstrapServerProtocolProvider;
import org.eclipse.leshan.server.californium.bootstrap.endpoint.coap.CoapOscoreBootstrapServerEndpointFactory;
import org.eclipse.leshan.server.californium.endpoint.CaliforniumServerEndpointsProvider;
import org.eclipse.leshan.server.californium.endpoint.coap.CoapOscoreServerEndpointFactory;
import org.eclipse.leshan.server.californium.endpoint.coap.CoapServerProtocolProvider;
import org.eclipse.leshan.server.model.VersionedBootstrapModelProvider;
import org.eclipse.leshan.server.model.VersionedModelProvider;
import org.eclipse.leshan.server.registration.Registration;
import org.eclipse.leshan.server.registration.RegistrationListener;
import org.eclipse.leshan.server.registration.RegistrationUpdate;
import org.eclipse.leshan.server.security.BootstrapSecurityStoreAdapter;
import org.eclipse.leshan.server.security.InMemorySecurityStore;
import org.eclipse.leshan.server.security.SecurityInfo;

public class Oscore {
    static byte[] bytes(String digits) {
        return Hex.decodeHex(digits.toCharArray());
    }

    static void print(String line) {
        System.out.println(line.replace('\n', ' '));
        System.out.flush();
    }

    static InMemorySecurityStore known(String endpoint, String own, String other, String secret) throws Exception {
        InMemorySecurityStore security = new InMemorySecurityStore();
        OscoreSetting setting = new OscoreSetting(bytes(own), bytes(other), bytes(secret));
        security.add(SecurityInfo.newOscoreInfo(endpoint, setting));
        return security;
    }

    public static void main(String[] args) throws Exception {
        String uri = "coap://127.0.0.1:" + args[1];
        CaliforniumServerEndpointsProvider.Builder endpoints = new CaliforniumServerEndpointsProvider.Builder(
                new CoapServerProtocolProvider());
        endpoints.addEndpoint(new CoapOscoreServerEndpointFactory(new URI(uri)));
        LeshanServerBuilder builder = new LeshanServerBuilder();
        builder.setSecurityStore(known(args[2], "02", "01", args[5]));
        builder.setObjectModelProvider(new VersionedModelProvider(ObjectLoader.loadAllDefault()));
        builder.setEndpointsProviders(endpoints.build());
        LeshanServer server = builder.build();
        server.getRegistrationService().addListener(new RegistrationListener() {
            @Override
            public void registered(Registration one, Registration previous, Collection<Observation> former) {
                print("registered " + one.getEndpoint());
                new Thread(() -> ask(server, one)).start();
            }

            @Override
            public void updated(RegistrationUpdate update, Registration one, Registration previous) {
                print("updated " + one.getEndpoint());
            }

            @Override
            public void unregistered(Registration one, Collection<Observation> observations, boolean expired,
                    Registration next) {
                print("unregistered " + one.getEndpoint() + " expired=" + expired);
            }
        });
        server.start();
        bootstrap(args, uri).start();
        print("ready");
        while (System.in.read() >= 0) {
        }
        server.destroy();
        System.exit(0);
    }

    static void ask(LeshanServer server, Registration one) {
        try {
            print("read " + server.send(one, new ReadRequest(3, 0, 0), 10_000));
            print("observe " + server.send(one, new ObserveRequest(3, 0, 13), 10_000));
            print("write " + server.send(one, new WriteRequest(1, 0, 1, 200), 10_000));
        } catch (InterruptedException error) {
            print("error " + error);
        }
    }

    static LeshanBootstrapServer bootstrap(String[] args, String uri) throws Exception {
        BootstrapConfig plan = new BootstrapConfig();
        plan.contentFormat = ContentFormat.fromName(args[3]);
        plan.autoIdForSecurityObject = true;
        plan.toDelete = List.of("/0", "/1", "/21");
        BootstrapConfig.ServerConfig server = new BootstrapConfig.ServerConfig();
        server.shortId = 123;
        server.lifetime = 300;
        server.binding = EnumSet.of(BindingMode.U);
        plan.servers.put(0, server);
        BootstrapConfig.ServerSecurity account = new BootstrapConfig.ServerSecurity();
        account.uri = uri;
        account.serverId = 123;
        account.securityMode = SecurityMode.NO_SEC;
        account.oscoreSecurityMode = 5;
        plan.security.put(1, account);
        BootstrapConfig.OscoreObject context = new BootstrapConfig.OscoreObject();
        context.oscoreMasterSecret = bytes(args[5]);
        context.oscoreSenderId = bytes("01");
        context.oscoreRecipientId = bytes("02");
        context.oscoreAeadAlgorithm = 10;
        context.oscoreHmacAlgorithm = -10;
        context.oscoreMasterSalt = new byte[0];
        plan.oscore.put(5, context);

        InMemoryBootstrapConfigStore plans = new InMemoryBootstrapConfigStore();
        plans.add(args[2], plan);
        CaliforniumBootstrapServerEndpointsProvider.Builder endpoints = new CaliforniumBootstrapServerEndpointsProvider.Builder(
                new CoapBootstrapServerProtocolProvider());
        endpoints.addEndpoint(
                new CoapOscoreBootstrapServerEndpointFactory(new URI("coap://127.0.0.1:" + args[0])));
        LeshanBootstrapServerBuilder builder = new LeshanBootstrapServerBuilder();
        builder.setSecurityStore(new BootstrapSecurityStoreAdapter(known(args[2], "04", "03", args[4])));
        builder.setObjectModelProvider(new VersionedBootstrapModelProvider(ObjectLoader.loadAllDefault()));
        builder.setConfigStore(plans);
        builder.setEndpointsProviders(endpoints.build());
        return builder.build();
    }
}
