package main

import (
	"github.com/seigr/sttnode/node"
	"github.com/seigr/sttnode/stc"
)

// contentArg is what a HASH on the command line stands for.
type contentArg struct {
	root  stc.Hash
	peers []node.Address // of a ticket: who had it
}

// parseContentArg reads an argument that names a content: a hash, or a ticket.
func parseContentArg(arg string) (contentArg, error) {
	if node.LooksLikeTicket(arg) {
		t, err := node.ParseTicket(arg)
		if err != nil {
			return contentArg{}, usagef("%v", errorText(err))
		}
		return contentArg{t.Root, t.Peers}, nil
	}
	root, err := stc.ParseHash(arg)
	if err != nil {
		return contentArg{}, usagef("%q is neither a hash nor a ticket: a hash is 64 digits of 0-9 a-f, as seed prints them", arg)
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
