// A DTLS client or server of pion for the tests: prints what it reads, sends the lines of its standard input.
//
//	pion server ADDRESS IDENTITY KEY SUITE [CID [sessions]]   waits for a client, then for another
//	pion client ADDRESS IDENTITY KEY SUITE [CID [sessions]]
//
// KEY is in hexadecimal, and so is SUITE, a number of IANA. CID is the length of the Connection ID in records to it;
// without it, or with -, none is offered or taken. With `sessions` they are kept and taken up again, and a client that was
// closed connects again.
package main

import (
	"bufio"
	"encoding/hex"
	"fmt"
	"net"
	"os"
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
	key, err := hex.DecodeString(os.Args[4])
	check(err)
	suite, err := strconv.ParseUint(os.Args[5], 16, 16)
	check(err)
	at, err := net.ResolveUDPAddr("udp", address)
	check(err)
	config := &dtls.Config{
		PSK:                  func([]byte) ([]byte, error) { return key, nil },
		PSKIdentityHint:      []byte(identity),
		CipherSuites:         []dtls.CipherSuiteID{dtls.CipherSuiteID(suite)},
		ExtendedMasterSecret: dtls.RequireExtendedMasterSecret,
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
