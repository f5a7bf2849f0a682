// A DTLS client or server on Scandium for the tests: prints what it reads, sends the lines of its standard input.
//
//	Peer server PORT IDENTITY KEY SUITE CID
//	Peer client PORT IDENTITY KEY SUITE CID
//
// KEY is in hexadecimal; SUITE is one of the IANA names without TLS_. In place of an identity `rpk` and `x509` stand for raw
// public keys and certificates on both sides, with the folder of the keys of `server` and `device` as KEY. CID is the length of the Connection ID in records to
// it, 0 for one of the peer alone, or - without any. The line `resume` makes a client take its session up again with the
// next line. After each handshake it prints `established SUITE read=CID write=CID`.

import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.nio.charset.StandardCharsets;
import java.security.PrivateKey;
import java.util.HexFormat;

import org.eclipse.californium.elements.AddressEndpointContext;
import org.eclipse.californium.elements.RawData;
import org.eclipse.californium.elements.auth.RawPublicKeyIdentity;
import org.eclipse.californium.elements.config.Configuration;
import org.eclipse.californium.elements.util.SslContextUtil;
import org.eclipse.californium.scandium.DTLSConnector;
import org.eclipse.californium.scandium.config.DtlsConfig;
import org.eclipse.californium.scandium.config.DtlsConfig.DtlsRole;
import org.eclipse.californium.scandium.config.DtlsConnectorConfig;
import org.eclipse.californium.scandium.dtls.CertificateType;
import org.eclipse.californium.scandium.dtls.ConnectionId;
import org.eclipse.californium.scandium.dtls.DTLSContext;
import org.eclipse.californium.scandium.dtls.HandshakeException;
import org.eclipse.californium.scandium.dtls.Handshaker;
import org.eclipse.californium.scandium.dtls.ResumingClientHandshaker;
import org.eclipse.californium.scandium.dtls.ResumingServerHandshaker;
import org.eclipse.californium.scandium.dtls.SessionAdapter;
import org.eclipse.californium.scandium.dtls.SingleNodeConnectionIdGenerator;
import org.eclipse.californium.scandium.dtls.cipher.CipherSuite;
import org.eclipse.californium.scandium.dtls.pskstore.SinglePskStore;
import org.eclipse.californium.scandium.dtls.x509.SingleCertificateProvider;
import org.eclipse.californium.scandium.dtls.x509.StaticCertificateVerifier;

public class Peer {
    static volatile InetSocketAddress other;

    public static void main(String[] arguments) throws Exception {
        boolean isServer = arguments[0].equals("server");
        InetSocketAddress at = new InetSocketAddress(InetAddress.getLoopbackAddress(), Integer.parseInt(arguments[1]));
        DtlsConfig.register();
        DtlsConnectorConfig.Builder builder = DtlsConnectorConfig.builder(new Configuration());
        builder.set(DtlsConfig.DTLS_ROLE, isServer ? DtlsRole.SERVER_ONLY : DtlsRole.CLIENT_ONLY);
        builder.set(DtlsConfig.DTLS_RECOMMENDED_CIPHER_SUITES_ONLY, false);
        builder.set(DtlsConfig.DTLS_RECEIVER_THREAD_COUNT, 1);
        builder.set(DtlsConfig.DTLS_CONNECTOR_THREAD_COUNT, 1);
        builder.setAsList(DtlsConfig.DTLS_CIPHER_SUITES, CipherSuite.getTypeByName("TLS_" + arguments[4]));
        authenticate(builder, isServer, arguments[2], arguments[3]);
        if (!arguments[5].equals("-")) {
            builder.setConnectionIdGenerator(new SingleNodeConnectionIdGenerator(Integer.parseInt(arguments[5])));
        }
        builder.setAddress(isServer ? at : new InetSocketAddress(InetAddress.getLoopbackAddress(), 0));
        builder.setSessionListener(new SessionAdapter() {
            @Override
            public void contextEstablished(Handshaker handshaker, DTLSContext context) throws HandshakeException {
                boolean resumed =
                    handshaker instanceof ResumingClientHandshaker || handshaker instanceof ResumingServerHandshaker;
                System.out.println((resumed ? "resumed " : "established ") + context.getSession().getCipherSuite()
                    + " read=" + digits(context.getReadConnectionId())
                    + " write=" + digits(context.getWriteConnectionId()));
            }

            @Override
            public void handshakeFailed(Handshaker handshaker, Throwable error) {
                System.out.println("failed " + error.getMessage());
            }
        });
        DTLSConnector connector = new DTLSConnector(builder.build());
        connector.setRawDataReceiver(data -> {
            other = data.getInetSocketAddress();
            System.out.println("got " + new String(data.getBytes(), StandardCharsets.UTF_8));
        });
        connector.start();
        if (!isServer) {
            other = at;
        }
        System.out.println("ready");
        BufferedReader lines = new BufferedReader(new InputStreamReader(System.in));
        for (String line = lines.readLine(); line != null; line = lines.readLine()) {
            if (line.equals("resume")) {
                connector.forceResumeAllSessions();
                System.out.println("resuming");
                continue;
            }
            byte[] bytes = line.getBytes(StandardCharsets.UTF_8);
            connector.send(RawData.outbound(bytes, new AddressEndpointContext(other), null, false));
        }
        connector.destroy();
    }

    static void authenticate(DtlsConnectorConfig.Builder builder, boolean isServer, String identity, String key)
        throws Exception {
        if (!identity.equals("rpk") && !identity.equals("x509")) {
            builder.setPskStore(new SinglePskStore(identity, HexFormat.of().parseHex(key)));
            return;
        }
        String own = key + (isServer ? "/server" : "/device");
        String other = key + (isServer ? "/device" : "/server");
        PrivateKey secret = SslContextUtil.loadPrivateKey(own + ".key.pem", null, null, null);
        StaticCertificateVerifier.Builder trust = StaticCertificateVerifier.builder();
        if (identity.equals("rpk")) {
            builder.setCertificateIdentityProvider(
                new SingleCertificateProvider(secret, SslContextUtil.loadPublicKey(own + ".pub.pem", null, null)));
            trust.setTrustedRPKs(new RawPublicKeyIdentity(SslContextUtil.loadPublicKey(other + ".pub.pem", null, null)));
        } else {
            // They name no hosts.
            builder.set(DtlsConfig.DTLS_VERIFY_SERVER_CERTIFICATES_SUBJECT, false);
            builder.setCertificateIdentityProvider(new SingleCertificateProvider(secret,
                SslContextUtil.loadCertificateChain(own + ".crt.pem", null, null), CertificateType.X_509));
            trust.setTrustedCertificates(SslContextUtil.loadTrustedCertificates(key + "/issuer.crt.pem"));
        }
        builder.setCertificateVerifier(trust.build());
    }

    static String digits(ConnectionId id) {
        return id == null ? "" : HexFormat.of().formatHex(id.getBytes());
    }
}
