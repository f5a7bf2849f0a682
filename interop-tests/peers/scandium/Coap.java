// A CoAP server or client of Californium over Scandium for the tests, driven by lines on standard input.
//
//	Coap server PORT IDENTITY KEY
//	Coap client PORT IDENTITY KEY
//
// KEY is in hexadecimal. The server has /store, which can be read, written and observed; each line is its next content. The
// client does with /store of the other side what the lines say: `get`, `put TEXT`, `observe`, `cancel`, and prints the code
// and the content of each answer and notification.

import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.util.HexFormat;

import org.eclipse.californium.core.CoapClient;
import org.eclipse.californium.core.CoapExchange;
import org.eclipse.californium.core.CoapHandler;
import org.eclipse.californium.core.CoapObserveRelation;
import org.eclipse.californium.core.CoapResource;
import org.eclipse.californium.core.CoapResponse;
import org.eclipse.californium.core.CoapServer;
import org.eclipse.californium.core.coap.CoAP.ResponseCode;
import org.eclipse.californium.core.coap.MediaTypeRegistry;
import org.eclipse.californium.core.config.CoapConfig;
import org.eclipse.californium.core.network.CoapEndpoint;
import org.eclipse.californium.elements.config.Configuration;
import org.eclipse.californium.scandium.DTLSConnector;
import org.eclipse.californium.scandium.config.DtlsConfig;
import org.eclipse.californium.scandium.config.DtlsConfig.DtlsRole;
import org.eclipse.californium.scandium.config.DtlsConnectorConfig;
import org.eclipse.californium.scandium.dtls.cipher.CipherSuite;
import org.eclipse.californium.scandium.dtls.pskstore.SinglePskStore;

public class Coap {
    public static void main(String[] arguments) throws Exception {
        boolean isServer = arguments[0].equals("server");
        int port = Integer.parseInt(arguments[1]);
        CoapConfig.register();
        DtlsConfig.register();
        Configuration configuration = new Configuration();
        DtlsConnectorConfig.Builder dtls = DtlsConnectorConfig.builder(configuration);
        dtls.set(DtlsConfig.DTLS_ROLE, isServer ? DtlsRole.SERVER_ONLY : DtlsRole.CLIENT_ONLY);
        dtls.setAsList(DtlsConfig.DTLS_CIPHER_SUITES, CipherSuite.TLS_PSK_WITH_AES_128_CCM_8);
        dtls.setPskStore(new SinglePskStore(arguments[2], HexFormat.of().parseHex(arguments[3])));
        dtls.setAddress(new InetSocketAddress(InetAddress.getLoopbackAddress(), isServer ? port : 0));
        CoapEndpoint endpoint = CoapEndpoint.builder().setConfiguration(configuration)
            .setConnector(new DTLSConnector(dtls.build())).build();
        BufferedReader lines = new BufferedReader(new InputStreamReader(System.in));
        if (isServer) {
            serve(configuration, endpoint, lines);
        } else {
            ask("coaps://127.0.0.1:" + port + "/store", endpoint, lines);
        }
    }

    static void serve(Configuration configuration, CoapEndpoint endpoint, BufferedReader lines) throws Exception {
        Store store = new Store();
        CoapServer server = new CoapServer(configuration);
        server.add(store);
        server.addEndpoint(endpoint);
        server.start();
        System.out.println("ready");
        for (String line = lines.readLine(); line != null; line = lines.readLine()) {
            store.set(line);
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
                print(client.get());
            } else if (line.startsWith("put ")) {
                print(client.put(line.substring(4), MediaTypeRegistry.TEXT_PLAIN));
            } else if (line.equals("observe")) {
                relation = client.observe(new CoapHandler() {
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
        endpoint.destroy();
    }

    static void print(CoapResponse response) {
        System.out.println(response == null ? "failed" : response.getCode() + " " + response.getResponseText());
    }
}
