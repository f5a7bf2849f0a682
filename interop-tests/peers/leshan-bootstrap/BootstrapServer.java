// A bootstrap server on the reference implementation's libraries, driven by lines on standard input, for the tests.
//
// java -cp LIBRARIES BootstrapServer.java COAP_PORT COAPS_PORT KEY
// KEY is as for Server.java. Prints `ready`, then one line for each event of a session. Commands:
//   psk ENDPOINT IDENTITY HEXKEY                                  the bootstrap account of a device
//   rpk ENDPOINT HEXKEY                                           the same
//   x509 ENDPOINT                                                 the same
//   plan ENDPOINT TLV|SENML_CBOR|… URI LIFETIME SECURITY [SUITE]  the management account it is to get
// SECURITY is as for Client.java; SUITE is in hexadecimal, a number of IANA. Each is answered by `stored`.

import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.net.InetSocketAddress;
import java.nio.charset.StandardCharsets;
import java.util.EnumSet;
import java.util.List;
import org.eclipse.leshan.core.CertificateUsage;
import org.eclipse.leshan.core.MatchingType;
import org.eclipse.leshan.core.SecurityMode;
import org.eclipse.leshan.core.endpoint.Protocol;
import org.eclipse.leshan.core.model.ObjectLoader;
import org.eclipse.leshan.core.peer.LwM2mPeer;
import org.eclipse.leshan.core.request.*;
import org.eclipse.leshan.core.response.LwM2mResponse;
import org.eclipse.leshan.core.util.Hex;
import org.eclipse.leshan.core.util.SecurityUtil;
import org.eclipse.leshan.core.util.datatype.ULong;
import org.eclipse.leshan.server.bootstrap.*;
import org.eclipse.leshan.server.californium.bootstrap.endpoint.CaliforniumBootstrapServerEndpointsProvider;
import org.eclipse.leshan.server.californium.bootstrap.endpoint.coap.CoapBootstrapServerProtocolProvider;
import org.eclipse.leshan.server.californium.bootstrap.endpoint.coaps.CoapsBootstrapServerProtocolProvider;
import org.eclipse.leshan.server.model.VersionedBootstrapModelProvider;
import org.eclipse.leshan.server.security.BootstrapSecurityStoreAdapter;
import org.eclipse.leshan.server.security.InMemorySecurityStore;
import org.eclipse.leshan.server.security.SecurityInfo;

public class BootstrapServer {
    static void print(String line) {
        System.out.println(line.replace('\n', ' '));
        System.out.flush();
    }

    public static void main(String[] args) throws Exception {
        CaliforniumBootstrapServerEndpointsProvider.Builder endpoints = new CaliforniumBootstrapServerEndpointsProvider.Builder(
                new CoapBootstrapServerProtocolProvider(), new CoapsBootstrapServerProtocolProvider());
        endpoints.setConfiguration(endpoints.createDefaultConfiguration());
        endpoints.addEndpoint(new InetSocketAddress("127.0.0.1", Integer.parseInt(args[0])), Protocol.COAP);
        endpoints.addEndpoint(new InetSocketAddress("127.0.0.1", Integer.parseInt(args[1])), Protocol.COAPS);

        InMemorySecurityStore security = new InMemorySecurityStore();
        InMemoryBootstrapConfigStore plans = new InMemoryBootstrapConfigStore();
        LeshanBootstrapServerBuilder builder = new LeshanBootstrapServerBuilder();
        builder.setObjectModelProvider(new VersionedBootstrapModelProvider(ObjectLoader.loadAllDefault()));
        builder.setSecurityStore(new BootstrapSecurityStoreAdapter(security));
        builder.setConfigStore(plans);
        if (!args[2].isEmpty()) {
            String[] key = args[2].split(",");
            builder.setPrivateKey(SecurityUtil.privateKey.decode(bytes(key[0])));
            builder.setCertificateChain(SecurityUtil.certificateChain.decode(bytes(key[1])));
            builder.setTrustedCertificates(SecurityUtil.certificateChain.decode(bytes(key[2])));
        }
        builder.setEndpointsProviders(endpoints.build());
        LeshanBootstrapServer server = builder.build();
        server.addListener(new Events());
        server.start();
        print("ready");

        BufferedReader input = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line = input.readLine(); line != null; line = input.readLine()) {
            String[] words = line.split(" ");
            switch (words[0]) {
            case "psk":
                security.add(SecurityInfo.newPreSharedKeyInfo(words[1], words[2], bytes(words[3])));
                break;
            case "rpk":
                security.add(
                        SecurityInfo.newRawPublicKeyInfo(words[1], SecurityUtil.publicKey.decode(bytes(words[2]))));
                break;
            case "x509":
                security.add(SecurityInfo.newX509CertInfo(words[1]));
                break;
            case "plan":
                plans.add(words[1], plan(words));
                break;
            default:
            }
            print("stored");
        }
        server.destroy();
    }

    static byte[] bytes(String digits) {
        return Hex.decodeHex(digits.toCharArray());
    }

    static BootstrapConfig plan(String[] words) {
        BootstrapConfig plan = new BootstrapConfig();
        plan.contentFormat = ContentFormat.fromName(words[2]);
        plan.autoIdForSecurityObject = true;
        plan.toDelete = List.of("/0", "/1");

        BootstrapConfig.ServerConfig server = new BootstrapConfig.ServerConfig();
        server.shortId = 123;
        server.lifetime = Integer.parseInt(words[4]);
        server.binding = EnumSet.of(BindingMode.U);
        plan.servers.put(0, server);

        BootstrapConfig.ServerSecurity account = new BootstrapConfig.ServerSecurity();
        account.uri = words[3];
        account.serverId = 123;
        String[] parts = words[5].split(",");
        switch (parts[0]) {
        case "psk":
            account.securityMode = SecurityMode.PSK;
            account.publicKeyOrId = parts[1].getBytes(StandardCharsets.UTF_8);
            account.secretKey = bytes(parts[2]);
            break;
        case "rpk":
        case "x509":
            account.securityMode = parts[0].equals("rpk") ? SecurityMode.RPK : SecurityMode.X509;
            account.publicKeyOrId = bytes(parts[1]);
            account.secretKey = bytes(parts[2]);
            account.serverPublicKey = bytes(parts[3]);
            if (parts.length > 4) {
                account.matchingType = MatchingType.EXACT_MATCH;
                account.certificateUsage = CertificateUsage.fromCode(Integer.parseInt(parts[4]));
                account.sni = parts[5];
            }
            break;
        default:
            account.securityMode = SecurityMode.NO_SEC;
        }
        if (words.length > 6) {
            account.cipherSuite = List
                    .of(new BootstrapConfig.CipherSuiteId(ULong.valueOf(Long.parseLong(words[6], 16))));
        }
        plan.security.put(1, account);
        return plan;
    }

    static class Events implements BootstrapSessionListener {
        @Override
        public void sessionInitiated(BootstrapRequest request, LwM2mPeer client) {
            print("asked " + request.getEndpointName());
        }

        @Override
        public void unAuthorized(BootstrapRequest request, LwM2mPeer client) {
            print("refused " + request.getEndpointName());
        }

        @Override
        public void authorized(BootstrapSession session) {
            print("authorized " + session.getEndpoint());
        }

        @Override
        public void noConfig(BootstrapSession session) {
            print("no-plan " + session.getEndpoint());
        }

        @Override
        public void sendRequest(BootstrapSession session,
                BootstrapDownlinkRequest<? extends LwM2mResponse> request) {
        }

        @Override
        public void onResponseSuccess(BootstrapSession session,
                BootstrapDownlinkRequest<? extends LwM2mResponse> request, LwM2mResponse response) {
            print("done " + request.getClass().getSimpleName() + " " + request.getPath() + " "
                    + response.getCode().getCode());
        }

        @Override
        public void onResponseError(BootstrapSession session,
                BootstrapDownlinkRequest<? extends LwM2mResponse> request, LwM2mResponse response) {
            print("error " + request.getClass().getSimpleName() + " " + request.getPath() + " "
                    + response.getCode().getCode() + " " + response.getErrorMessage());
        }

        @Override
        public void onRequestFailure(BootstrapSession session,
                BootstrapDownlinkRequest<? extends LwM2mResponse> request, Throwable cause) {
            print("error " + request.getClass().getSimpleName() + " " + cause);
        }

        @Override
        public void end(BootstrapSession session) {
            print("finished " + session.getEndpoint());
        }

        @Override
        public void failed(BootstrapSession session, BootstrapFailureCause cause) {
            print("failed " + session.getEndpoint() + " " + cause);
        }
    }
}
