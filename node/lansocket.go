package node

import (
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
)

// The groups of beacons: of RFC 2365's local scope, and of the transient
// link-local ones of RFC 4291 section 2.7. No registered service has the port.
var (
	lanGroup4 = net.IPv4(239, 83, 84, 84)
	lanGroup6 = net.ParseIP("ff12::5354:54")
)

const lanPort = 4701

// maxLANInterfaces bounds the interfaces that beacons are sent on.
const maxLANInterfaces = 16

// lanRefresh is how often interfaces that have come or gone are looked for.
const lanRefresh = 15 * time.Second

// lanSockets are the sockets of discovery: for each interface and family one
// that hears and one that sends. All but deliver is called by one goroutine.
type lanSockets struct {
	deliver func(b []byte, from netip.Addr) // called by many goroutines
	log     *slog.Logger
	port    int

	looked  time.Time
	sockets map[lanLink]*lanSocket
	readers sync.WaitGroup
}

// lanLink is an interface in one family.
type lanLink struct {
	index int
	v6    bool
}

type lanSocket struct {
	hear *net.UDPConn
	say  *net.UDPConn
	to   *net.UDPAddr
}

// refresh opens sockets on interfaces that have come, and closes those of
// interfaces that have gone.
func (l *lanSockets) refresh() {
	if time.Since(l.looked) < lanRefresh {
		return
	}
	l.looked = time.Now()
	if l.sockets == nil {
		l.sockets = make(map[lanLink]*lanSocket)
	}
	all, err := net.Interfaces()
	if err != nil {
		l.log.Info("interfaces of this machine", "err", err)
		return
	}
	here := make(map[lanLink]bool)
	for _, ifi := range all {
		if ifi.Flags&net.FlagUp == 0 || ifi.Flags&(net.FlagMulticast|net.FlagLoopback) == 0 || len(here) >= 2*maxLANInterfaces {
			continue
		}
		for _, v6 := range []bool{false, true} {
			link := lanLink{ifi.Index, v6}
			here[link] = true
			if l.sockets[link] != nil {
				continue
			}
			s, err := l.open(&ifi, v6)
			if err != nil {
				l.log.Debug("no discovery on interface", "interface", ifi.Name, "ipv6", v6, "err", err)
				continue
			}
			l.sockets[link] = s
			l.readers.Go(func() { l.read(s.hear) })
		}
	}
	for link, s := range l.sockets {
		if !here[link] {
			s.close()
			delete(l.sockets, link)
		}
	}
}

func (l *lanSockets) open(ifi *net.Interface, v6 bool) (s *lanSocket, err error) {
	s = new(lanSocket)
	network, from := "udp4", &net.UDPAddr{IP: net.IPv4zero}
	s.to = &net.UDPAddr{IP: lanGroup4, Port: l.port}
	if v6 {
		network, from = "udp6", &net.UDPAddr{IP: net.IPv6unspecified}
		s.to = &net.UDPAddr{IP: lanGroup6, Port: l.port, Zone: ifi.Name}
	}
	// Several nodes of one machine may hear on the same port.
	if s.hear, err = net.ListenMulticastUDP(network, ifi, &net.UDPAddr{IP: s.to.IP, Port: l.port}); err != nil {
		return nil, err
	}
	if s.say, err = net.ListenUDP(network, from); err != nil {
		s.close()
		return nil, err
	}
	// To this link and no further, and to the other nodes of this machine.
	if v6 {
		p := ipv6.NewPacketConn(s.say)
		err = firstError(p.SetMulticastInterface(ifi), p.SetMulticastHopLimit(1), p.SetMulticastLoopback(true))
	} else {
		p := ipv4.NewPacketConn(s.say)
		err = firstError(p.SetMulticastInterface(ifi), p.SetMulticastTTL(1), p.SetMulticastLoopback(true))
	}
	if err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// read delivers what arrives until the socket is closed.
func (l *lanSockets) read(conn *net.UDPConn) {
	buf := make([]byte, 512) // beacons are shorter
	for {
		n, from, err := conn.ReadFromUDPAddrPort(buf)
		if err != nil {
			return
		}
		l.deliver(append([]byte(nil), buf[:n]...), from.Addr().Unmap())
	}
}

// send sends a beacon on every link and returns on how many.
func (l *lanSockets) send(b []byte) (sent int) {
	for _, s := range l.sockets {
		if _, err := s.say.WriteToUDP(b, s.to); err == nil {
			sent++
		}
	}
	return sent
}

func (s *lanSocket) close() {
	if s.hear != nil {
		s.hear.Close()
	}
	if s.say != nil {
		s.say.Close()
	}
}

// close ends everything and waits.
func (l *lanSockets) close() {
	for _, s := range l.sockets {
		s.close()
	}
	l.readers.Wait()
}
