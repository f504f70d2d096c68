package main

import (
	"github.com/seigr/sttnode/node"
	"github.com/seigr/sttnode/stc"
)

// contentArg is what a HASH on the command line stands for.
type contentArg struct {
	root  stc.Hash
	name  stc.Name       // if not zero, root is what it stands for: see resolve
	peers []node.Address // of a ticket: who had it
}

// parseContentArg reads an argument that names a content: a hash, a ticket, or a
// name.
func parseContentArg(arg string) (contentArg, error) {
	if node.LooksLikeTicket(arg) {
		t, err := node.ParseTicket(arg)
		if err != nil {
			return contentArg{}, usagef("%v", errorText(err))
		}
		return contentArg{root: t.Root, peers: t.Peers}, nil
	}
	if name, err := stc.ParseName(arg); err == nil {
		return contentArg{name: name}, nil
	}
	root, err := stc.ParseHash(arg)
	if err != nil {
		return contentArg{}, usagef("%q is no hash, ticket or name: a hash is 64 digits of 0-9 a-f, as seed prints them", arg)
	}
	return contentArg{root: root}, nil
}

// parsePeers reads the values of --peer.
func parsePeers(values []string) ([]node.Address, error) {
	var peers []node.Address
	for _, s := range values {
		a, err := node.ParseAddress(s)
		if err != nil {
			return nil, usagef("--peer: %v", err)
		}
		peers = append(peers, a)
	}
	return peers, nil
}
