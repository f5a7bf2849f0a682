// A CoAP server or client of Californium with its OSCORE for the tests, driven by lines on standard input.
//
//	Oscore server PORT SENDER RECIPIENT CONTEXT KEYS
//	Oscore client PORT SENDER RECIPIENT CONTEXT KEYS
//
// The ids and the ID Context are in hexadecimal, `-` for none. KEYS is `fixed`, or `rederived`: Appendix B.2 may replace
// them, and the client begins with it. The server has /store, which can be read, written and observed; each
// line is its next content, but `renew` has the server replace the keys. The client does with /store of the
// other side what the lines say: `get`, `put TEXT`, `observe`, `cancel`, and prints the code and the content of each answer
// and notification.

import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.util.HexFormat;

import org.eclipse.californium.core.CoapClient;
import org.eclipse.californium.core.CoapHandler;
import org.eclipse.californium.core.CoapObserveRelation;
import org.eclipse.californium.core.CoapResource;
import org.eclipse.californium.core.CoapResponse;
import org.eclipse.californium.core.CoapServer;
import org.eclipse.californium.core.coap.CoAP.ResponseCode;
import org.eclipse.californium.core.coap.MediaTypeRegistry;
import org.eclipse.californium.core.coap.Request;
import org.eclipse.californium.core.config.CoapConfig;
import org.eclipse.californium.core.network.CoapEndpoint;
import org.eclipse.californium.core.server.resources.CoapExchange;
import org.eclipse.californium.cose.AlgorithmID;
import org.eclipse.californium.elements.config.Configuration;
import org.eclipse.californium.elements.config.UdpConfig;
import org.eclipse.californium.elements.util.Bytes;
import org.eclipse.californium.oscore.ContextRederivation.PHASE;
import org.eclipse.californium.oscore.HashMapCtxDB;
import org.eclipse.californium.oscore.OSCoreCoapStackFactory;
import org.eclipse.californium.oscore.OSCoreCtx;

public class Oscore {
    static final byte[] SECRET = HexFormat.of().parseHex("0102030405060708090a0b0c0d0e0f10");
    static final byte[] SALT = HexFormat.of().parseHex("9e7ca92223786340");

    public static void main(String[] arguments) throws Exception {
        boolean isServer = arguments[0].equals("server");
        int port = Integer.parseInt(arguments[1]);
        boolean rederived = arguments[5].equals("rederived");
        CoapConfig.register();
        UdpConfig.register();
        Configuration configuration = new Configuration();
        HashMapCtxDB contexts = new HashMapCtxDB();
        OSCoreCoapStackFactory.useAsDefault(contexts);
        OSCoreCtx context = new OSCoreCtx(SECRET, !isServer, AlgorithmID.AES_CCM_16_64_128, bytes(arguments[2]),
            bytes(arguments[3]), AlgorithmID.HKDF_HMAC_SHA_256, 32, SALT,
            arguments[4].equals("-") ? null : bytes(arguments[4]), 4096);
        context.setContextRederivationEnabled(rederived);
        BufferedReader lines = new BufferedReader(new InputStreamReader(System.in));
        CoapEndpoint endpoint = CoapEndpoint.builder().setConfiguration(configuration)
            .setInetSocketAddress(new InetSocketAddress(InetAddress.getLoopbackAddress(), isServer ? port : 0)).build();
        if (isServer) {
            contexts.addContext(context);
            serve(configuration, endpoint, contexts, context.getRecipientId(), lines);
        } else {
            if (rederived) {
                context.setContextRederivationPhase(PHASE.CLIENT_INITIATE);
            }
            String uri = "coap://127.0.0.1:" + port;
            contexts.addContext(uri, context);
            ask(uri + "/store", endpoint, lines);
        }
    }

    static byte[] bytes(String hex) {
        return hex.equals("-") ? Bytes.EMPTY : HexFormat.of().parseHex(hex);
    }

    static void serve(Configuration configuration, CoapEndpoint endpoint, HashMapCtxDB contexts, byte[] device,
            BufferedReader lines) throws Exception {
        Store store = new Store();
        CoapServer server = new CoapServer(configuration);
        server.add(store);
        server.addEndpoint(endpoint);
        server.start();
        System.out.println("ready");
        for (String line = lines.readLine(); line != null; line = lines.readLine()) {
            if (line.equals("renew")) {
                contexts.getContext(device).setContextRederivationPhase(PHASE.SERVER_INITIATE);
                System.out.println("renewing");
            } else {
                store.set(line);
            }
        }
        server.destroy();
    }

    static class Store extends CoapResource {
        private volatile String content = "";

        Store() {
            super("store");
            setObservable(true);
        }

        void set(String next) {
            content = next;
            changed();
        }

        @Override
        public void handleGET(CoapExchange exchange) {
            exchange.respond(ResponseCode.CONTENT, content, MediaTypeRegistry.TEXT_PLAIN);
        }

        @Override
        public void handlePUT(CoapExchange exchange) {
            set(exchange.getRequestText());
            exchange.respond(ResponseCode.CHANGED);
        }
    }

    static void ask(String uri, CoapEndpoint endpoint, BufferedReader lines) throws Exception {
        CoapClient client = new CoapClient(uri);
        client.setEndpoint(endpoint);
        CoapObserveRelation relation = null;
        System.out.println("ready");
        for (String line = lines.readLine(); line != null; line = lines.readLine()) {
            if (line.equals("get")) {
                print(client.advanced(protectedRequest(Request.newGet())));
            } else if (line.startsWith("put ")) {
                Request request = protectedRequest(Request.newPut());
                request.setPayload(line.substring(4));
                request.getOptions().setContentFormat(MediaTypeRegistry.TEXT_PLAIN);
                print(client.advanced(request));
            } else if (line.equals("observe")) {
                // It orders notifications by their inner Observe, which has no value (RFC 8613 section 4.1.3.5.2), and so
                // hands none after the first to its handler.
                endpoint.addNotificationListener(
                    (request, response) -> System.out.println(response.getCode() + " " + response.getPayloadString()));
                relation = client.observe(protectedRequest(Request.newGet().setObserve()), new CoapHandler() {
                    @Override
                    public void onLoad(CoapResponse response) {
                        print(response);
                    }

                    @Override
                    public void onError() {
                        print(null);
                    }
                });
            } else if (line.equals("cancel")) {
                relation.proactiveCancel();
            }
        }
    }

    static Request protectedRequest(Request request) {
        request.getOptions().setOscore(Bytes.EMPTY);
        return request;
    }

    static void print(CoapResponse response) {
        System.out.println(response == null ? "none" : response.getCode() + " " + response.getResponseText());
    }
}
