package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"github.com/spf13/pflag"

	"github.com/seigr/sttnode/stc"
)

func initCommand() *command {
	return &command{
		name:  "init",
		args:  "[--dir D] [--shared-seed-file F]",
		short: "make this node's identity and, for a new network, its shared seed",
		long: `Makes the directory of a node with a secret of its own, the node seed, from
which its identity and the keys of its store come.

The shared seed makes the network: who holds the file is in. If the file does
not exist, init creates it, and a new network begins. To join one that exists,
get the file from somebody in it, and name it with --shared-seed-file; init
notes its place in the settings of the node, so that later commands find it.

Repeating init changes nothing. Losing node.seed makes the store unreadable.

Example:
  sttnode init                                      begin a network
  sttnode init --shared-seed-file ./office.seed     join one`,
		group: groupStore | groupSeed,
		setup: func(*pflag.FlagSet) runFunc { return runInit },
	}
}

type initEvent struct {
	Event          string `json:"event"`
	NodeID         string `json:"node_id"`
	NetworkID      string `json:"network_id"`
	Dir            string `json:"dir"`
	SharedSeedFile string `json:"shared_seed_file"`
	CreatedNode    bool   `json:"created_node"`
	CreatedNetwork bool   `json:"created_network"`
}

func runInit(_ context.Context, a *app, args []string) error {
	if err := noArgs(args); err != nil {
		return err
	}
	h := home(a.options.dir)
	if err := os.MkdirAll(string(h), 0o700); err != nil {
		return fmt.Errorf("node directory: %w", err)
	}
	createdNode, err := createSeed(h.nodeSeed())
	if err != nil {
		return fmt.Errorf("node seed: %w", err)
	}
	id, err := a.loadIdentity()
	if err != nil {
		return err
	}
	seedPath := a.options.sharedSeedPath()
	createdNetwork, err := createSeed(seedPath)
	if err != nil {
		return fmt.Errorf("shared seed: %w", err)
	}
	keyring, err := a.loadKeyring()
	if err != nil {
		return err
	}
	if err := rememberSharedSeed(a, h, seedPath); err != nil {
		return err
	}
	return a.reportInit(initEvent{"initialised", id.NodeID().String(), keyring.NetworkID().String(),
		a.options.dir, seedPath, createdNode, createdNetwork}, id.NodeID())
}

// rememberSharedSeed notes a seed file outside the directory in the settings
// file, if there is none yet.
func rememberSharedSeed(a *app, h home, seedPath string) error {
	if seedPath == h.sharedSeed() {
		return nil
	}
	if _, err := os.Lstat(h.settings()); err == nil {
		return nil // the settings are the user's
	}
	abs, err := filepath.Abs(seedPath)
	if err != nil {
		return err
	}
	line := fmt.Sprintf("# written by sttnode init\nshared-seed-file = %s\n", strconv.Quote(abs))
	if err := writeFileAtomic(h.settings(), []byte(line), 0o600); err != nil {
		return fmt.Errorf("settings file: %w", err)
	}
	a.log.Info("noted the place of the shared seed", "settings", h.settings())
	return nil
}

func (a *app) reportInit(e initEvent, id stc.Hash) error {
	if a.options.json {
		a.emit(e)
		return nil
	}
	fmt.Fprintln(a.stdout, id)
	if e.CreatedNode {
		a.note("Made a node in %s. Its ID is above.", e.Dir)
	} else {
		a.note("The node in %s exists already. Its ID is above.", e.Dir)
	}
	if e.CreatedNetwork {
		a.note("Made the shared seed of a new network, %s.\nGive this file, and nobody else's, to every node that shall be in the network.", e.SharedSeedFile)
	} else {
		a.note("The shared seed is %s (network %s).", e.SharedSeedFile, e.NetworkID)
	}
	return nil
}
