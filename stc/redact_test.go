package stc

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

// No verb, no logger and no encoder may print a secret. In unexported fields, where package fmt calls no methods, that holds for
// pointers and for the verbs that suit any struct; go vet reports the others.
func TestSecretsAreNeverPrinted(t *testing.T) {
	id, kr := testIdentity(t, 1), testKeyring(t, 3)
	if err := kr.SetPeerSeed(Sum(nil), seedOf(5)); err != nil {
		t.Fatal(err)
	}
	peerKeys, _ := kr.forPeer(Sum(nil))
	initiator, _ := runHandshake(t, id, kr, testIdentity(t, 2), kr, Hash{})
	open, err := NewInitiator(id, kr, Hash{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := open.WriteMessage(nil, nil); err != nil {
		t.Fatal(err)
	}
	traffic, _, err := initiator.Secrets()
	if err != nil {
		t.Fatal(err)
	}
	packet := mustPacketKey(t, traffic, SuiteAES256GCM, 0)
	store, sealer := NewStoreCipher(id.StoreKey()), NewDatagramSealer(id, kr, 0)
	name, err := id.NameKey("film")
	if err != nil {
		t.Fatal(err)
	}

	secrets := map[string][]byte{
		"node PRK": id.secret.prk[:], "signing seed": id.secret.signing.Seed(), "name's seed": name.secret.signing.Seed(), "X25519 key": id.secret.dh.Bytes(),
		"psk": kr.network.psk[:], "outer key": kr.network.outer[:], "pair secret": kr.network.pair[:],
		"peer's psk": peerKeys.psk[:], "traffic secret": traffic[:], "ephemeral key": open.dh.ephemeral.private[:], "K1": store.k1[:],
	}
	type nested struct {
		Identity *Identity
		Keyring  *Keyring
		Secret   Secret
		Open     *Handshake
		identity *Identity
		keyring  *Keyring
		secret   *Secret
		open     *Handshake
		packet   *PacketKey
		store    *StoreCipher
		sealer   *DatagramSealer
		name     *NameKey
	}
	in := nested{id, kr, *traffic, open, id, kr, traffic, open, packet, store, sealer, name}
	direct := []any{id, *id, kr, traffic, *traffic, initiator, open, packet, store, sealer, name, *name, []any{*traffic, *id, kr}}
	structs := []any{in, &in, []any{in}, map[string]any{"x": in}}
	structVerbs := []string{"%v", "%+v", "%#v", "%x", "%X", "% x", "%d", "%o", "%b"}
	allVerbs := append([]string{"%s", "%q", "%c", "%U", "%t", "%e", "%z"}, structVerbs...)

	check := func(how, printed string) {
		t.Helper()
		lower := strings.ToLower(printed)
		for name, secret := range secrets {
			part := secret[:8]
			for _, form := range []string{
				string(part), hex.EncodeToString(part), fmt.Sprintf("% x", part), strings.Trim(fmt.Sprint(part), "[]"),
				strings.ReplaceAll(strings.Trim(fmt.Sprint(part), "[]"), " ", ","), strings.ToLower(fmt.Sprintf("%#v", part))[7:40],
			} {
				if strings.Contains(lower, strings.ToLower(form)) {
					t.Errorf("%s shows the %s: %s", how, name, printed)
				}
			}
		}
	}
	for i, v := range append(direct, structs...) {
		verbs := allVerbs
		if i >= len(direct) {
			verbs = structVerbs
		}
		for _, verb := range verbs {
			check(fmt.Sprintf("%s of value %d (%T)", verb, i, v), fmt.Sprintf(verb, v))
		}
		var log bytes.Buffer
		slog.New(slog.NewTextHandler(&log, nil)).Info("m", "v", v)
		slog.New(slog.NewJSONHandler(&log, nil)).Info("m", "v", v)
		check(fmt.Sprintf("slog of value %d", i), log.String())
		if b, err := json.Marshal(v); err == nil {
			check(fmt.Sprintf("json of value %d", i), string(b))
		}
	}

	if got := fmt.Sprint(id); got != "stc.Identity("+id.NodeID().String()+")" {
		t.Errorf("an identity prints as %s", got)
	}
	if got := fmt.Sprintf("%v %#v", kr, kr); got != fmt.Sprintf("stc.Keyring(%v) stc.Keyring(%v)", kr.NetworkID(), kr.NetworkID()) {
		t.Errorf("a keyring prints as %s", got)
	}
	if got := fmt.Sprintf("%x", *traffic); got != "stc.Secret[redacted]" {
		t.Errorf("a secret prints as %s", got)
	}
}
