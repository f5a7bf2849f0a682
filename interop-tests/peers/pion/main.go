// A DTLS client or server of pion for the tests: prints what it reads, sends the lines of its standard input.
//
//	pion server ADDRESS IDENTITY KEY [CID]   waits for one client
//	pion client ADDRESS IDENTITY KEY [CID]
//
// KEY is in hexadecimal; the suite is TLS_PSK_WITH_AES_128_CCM_8. CID is the length of the Connection ID in records to it;
// without it none is offered or taken.
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
	at, err := net.ResolveUDPAddr("udp", address)
	check(err)
	config := &dtls.Config{
		PSK:                  func([]byte) ([]byte, error) { return key, nil },
		PSKIdentityHint:      []byte(identity),
		CipherSuites:         []dtls.CipherSuiteID{dtls.TLS_PSK_WITH_AES_128_CCM_8},
		ExtendedMasterSecret: dtls.RequireExtendedMasterSecret,
	}
	if len(os.Args) > 5 {
		length, err := strconv.Atoi(os.Args[5])
		check(err)
		config.ConnectionIDGenerator = dtls.RandomCIDGenerator(length)
		if length == 0 {
			config.ConnectionIDGenerator = dtls.OnlySendCIDGenerator()
		}
	}
	var connection net.Conn
	if role == "server" {
		listener, err := dtls.Listen("udp", at, config)
		check(err)
		fmt.Println("listening")
		connection, err = listener.Accept()
		check(err)
	} else {
		connection, err = dtls.Dial("udp", at, config)
		check(err)
	}
	check(connection.(*dtls.Conn).Handshake())
	fmt.Println("established")
	go func() {
		lines := bufio.NewScanner(os.Stdin)
		for lines.Scan() {
			_, err := connection.Write([]byte(lines.Text() + "\n"))
			check(err)
		}
	}()
	buffer := make([]byte, 2048)
	for {
		length, err := connection.Read(buffer)
		if err != nil {
			fmt.Println("closed")
			return
		}
		fmt.Printf("got %s\n", buffer[:length])
	}
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
