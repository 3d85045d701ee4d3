// Forwards TCP connections from an address of the host to an address of the
// cluster. It copies in the kernel (splice) and ends half-closed connections
// the way the peers do.
package main

import (
	"flag"
	"io"
	"log"
	"net"
	"sync"
	"time"
)

func pipe(to, from *net.TCPConn, done *sync.WaitGroup) {
	defer done.Done()
	io.Copy(to, from)
	to.CloseWrite()
}

func main() {
	listen := flag.String("listen", "", "host:port to accept connections on")
	target := flag.String("to", "", "host:port to forward them to")
	flag.Parse()
	listener, err := net.Listen("tcp", *listen)
	if err != nil {
		log.Fatal(err)
	}
	for {
		client, err := listener.Accept()
		if err != nil {
			log.Print(err)
			time.Sleep(100 * time.Millisecond) // out of file descriptors: connections have to end first
			continue
		}
		go func() {
			defer client.Close()
			server, err := net.DialTimeout("tcp", *target, 5*time.Second)
			if err != nil {
				log.Print(err)
				return
			}
			defer server.Close()
			var done sync.WaitGroup
			done.Add(2)
			go pipe(server.(*net.TCPConn), client.(*net.TCPConn), &done)
			go pipe(client.(*net.TCPConn), server.(*net.TCPConn), &done)
			done.Wait()
		}()
	}
}
