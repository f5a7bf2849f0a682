// A DTLS client or server of pion for the tests: prints what it reads, sends the lines of its standard input.
//
//	pion server ADDRESS IDENTITY KEY SUITE [CID [sessions]]   waits for a client, then for another
//	pion client ADDRESS IDENTITY KEY SUITE [CID [sessions]]
//
// KEY is in hexadecimal, and so is SUITE, a number of IANA. In place of an identity `x509` stands for certificates on both
// sides, with the folder of the keys of `server` and `device` as KEY. CID is the length of the Connection ID in records to it;
// without it, or with -, none is offered or taken. With `sessions` they are kept and taken up again, and a client that was
// closed connects again.
package main

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"

	"github.com/pion/dtls/v3"
)

func main() {
	if len(os.Args) == 2 && os.Args[1] == "version" {
		version()
		return
	}
	role, address, identity := os.Args[1], os.Args[2], os.Args[3]
	suite, err := strconv.ParseUint(os.Args[5], 16, 16)
	check(err)
	at, err := net.ResolveUDPAddr("udp", address)
	check(err)
	config := &dtls.Config{
		CipherSuites:         []dtls.CipherSuiteID{dtls.CipherSuiteID(suite)},
		ExtendedMasterSecret: dtls.RequireExtendedMasterSecret,
	}
	if identity == "x509" {
		useCertificates(config, role, os.Args[4])
	} else {
		key, err := hex.DecodeString(os.Args[4])
		check(err)
		config.PSK = func([]byte) ([]byte, error) { return key, nil }
		config.PSKIdentityHint = []byte(identity)
	}
	if len(os.Args) > 6 && os.Args[6] != "-" {
		length, err := strconv.Atoi(os.Args[6])
		check(err)
		config.ConnectionIDGenerator = dtls.RandomCIDGenerator(length)
		if length == 0 {
			config.ConnectionIDGenerator = dtls.OnlySendCIDGenerator()
		}
	}
	keeps := len(os.Args) > 7 && os.Args[7] == "sessions"
	if keeps {
		config.SessionStore = sessions{}
	}
	lines := make(chan string)
	go func() {
		input := bufio.NewScanner(os.Stdin)
		for input.Scan() {
			lines <- input.Text()
		}
	}()
	if role == "server" {
		listener, err := dtls.Listen("udp", at, config)
		check(err)
		fmt.Println("listening")
		for {
			connection, err := listener.Accept()
			check(err)
			talk(connection.(*dtls.Conn), lines)
		}
	}
	for again := true; again; again = keeps {
		connection, err := dtls.Dial("udp", at, config)
		check(err)
		talk(connection, lines)
	}
}

// useCertificates makes both sides prove themselves. The certificates name no hosts.
func useCertificates(config *dtls.Config, role, folder string) {
	own := map[string]string{"server": "server", "client": "device"}[role]
	path := filepath.Join(folder, own)
	certificate, err := tls.LoadX509KeyPair(path+".crt.pem", path+".key.pem")
	check(err)
	issuer, err := os.ReadFile(filepath.Join(folder, "issuer.crt.pem"))
	check(err)
	trusted := x509.NewCertPool()
	trusted.AppendCertsFromPEM(issuer)
	config.Certificates = []tls.Certificate{certificate}
	config.RootCAs, config.ClientCAs = trusted, trusted
	config.ClientAuth = dtls.RequireAndVerifyClientCert
}

// talk goes on until the peer closes the connection.
func talk(connection *dtls.Conn, lines <-chan string) {
	check(connection.Handshake())
	fmt.Println("established")
	closed := make(chan struct{})
	go func() {
		for {
			select {
			case line := <-lines:
				_, err := connection.Write([]byte(line + "\n"))
				check(err)
			case <-closed:
				return
			}
		}
	}()
	buffer := make([]byte, 2048)
	for {
		length, err := connection.Read(buffer)
		if err != nil {
			close(closed)
			connection.Close()
			fmt.Println("closed")
			return
		}
		fmt.Printf("got %s\n", buffer[:length])
	}
}

// sessions is a store in memory; one goroutine at a time uses it.
type sessions map[string]dtls.Session

func (known sessions) Set(key []byte, session dtls.Session) error {
	known[string(key)] = session
	return nil
}

func (known sessions) Get(key []byte) (dtls.Session, error) { return known[string(key)], nil }

func (known sessions) Del(key []byte) error {
	delete(known, string(key))
	return nil
}

func version() {
	info, _ := debug.ReadBuildInfo()
	for _, module := range info.Deps {
		if module.Path == "github.com/pion/dtls/v3" {
			fmt.Println("pion/dtls", module.Version)
		}
	}
}

func check(err error) {
	if err != nil {
		fmt.Println("failed:", err)
		os.Exit(1)
	}
}
