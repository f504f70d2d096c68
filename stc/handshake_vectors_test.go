package stc

import (
	"bytes"
	"crypto/ecdh"
	"testing"

	"github.com/cloudflare/circl/dh/x25519"
	"github.com/flynn/noise"
)

// Published vectors of Noise_XXpsk0_25519_ChaChaPoly_SHA256, from the vectors.txt of github.com/flynn/noise v1.1.0 (also used by
// implementations in other languages), reproduced as data. All four share the static, ephemeral and pre-shared keys. Their
// handshake hashes, which the file doesn't give, and the traffic secrets, which are ours, come from a second implementation
// of Noise and of the key tree in doc.go; it reproduced the ciphertexts as well.
const (
	vectorInitStatic    = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
	vectorRespStatic    = "0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f20"
	vectorInitEphemeral = "202122232425262728292a2b2c2d2e2f303132333435363738393a3b3c3d3e3f"
	vectorRespEphemeral = "4142434445464748494a4b4c4d4e4f505152535455565758595a5b5c5d5e5f60"
	vectorPSK           = "2176657279736563726574766572797365637265747665727973656372657421"
)

type vectorMessage struct{ payload, ciphertext string }

var noiseVectors = []struct {
	name, prologue       string
	messages             [3]vectorMessage // of the handshake
	transport            [2]vectorMessage // the first of each direction under the split keys
	hash                 string
	initiator, responder string
}{
	{
		name: "no payloads",
		messages: [3]vectorMessage{
			{"", "358072d6365880d1aeea329adf9121383851ed21a28e3b75e965d0d2cd166254555f63b2499511e3b299a5649351a5b7"},
			{"", "64b101b1d0be5a8704bd078f9895001fc03e8e9f9522f188dd128d9846d4846622df46c0ac1e0fc71795a84e37cc0e963d131c8e84c02cd5cfcfe8def3fe128b324ab54fd3be59ac143dfdc68996211170078c960e051d6ed971da20bde0fcf1"},
			{"", "462127adbe047db3d1fce0581b5447d99b606c591545a7719132e0c91fe93d123be3fe89ffd8af56e02cefda863080ecee5651dcecddde76b8237c66740d7c8f"},
		},
		transport: [2]vectorMessage{
			{"79656c6c6f777375626d6172696e65", "75fff8afebd2f14da1cac9cc5b5201395cdf2ad65f3a97804e360c16f4e2ac"},
			{"7375626d6172696e6579656c6c6f77", "150cc85f79f9ca0f0730b8b4707805ed1969ff6b2770a5d466cd2754802805"},
		},
		hash:      "c6a31dbec5f84515817022865438b3d17bfa2d0b449c0c6c5b42afe52e5bb964",
		initiator: "d7004514ddb1d57200afe32d969bf01eaed58268d66cc3c3e5a0d5a01f380a91",
		responder: "1faf68f77a26c0775942fed607fd067892c8cc920244c4117e44d3944fc4c5a7",
	},
	{
		name: "payloads",
		messages: [3]vectorMessage{
			{"746573745f6d73675f30", "358072d6365880d1aeea329adf9121383851ed21a28e3b75e965d0d2cd1662547f533cf20723ac4407c8e51516d7c7382d8aa777424dba78813d"},
			{"746573745f6d73675f31", "64b101b1d0be5a8704bd078f9895001fc03e8e9f9522f188dd128d9846d4846622df46c0ac1e0fc71795a84e37cc0e963d131c8e84c02cd5cfcfe8def3fe128b1146c1820dc4d08bf16b5c682badf2ef2dc6c1642ae7e8ae8c8e1e38a06064341a604c21b70227181c04"},
			{"746573745f6d73675f32", "462127adbe047db3d1fce0581b5447d99b606c591545a7719132e0c91fe93d122132c2cde2bc69209884f77756f265744111b0bfa4fdeb4704a42c7f8750279908327b545416cf81f828"},
		},
		transport: [2]vectorMessage{
			{"79656c6c6f777375626d6172696e65", "75fff8afebd2f14da1cac9cc5b5201395cdf2ad65f3a97804e360c16f4e2ac"},
			{"7375626d6172696e6579656c6c6f77", "150cc85f79f9ca0f0730b8b4707805ed1969ff6b2770a5d466cd2754802805"},
		},
		hash:      "c2f2327e0ec461e37dd2c939c26731967e941d993c827fc4cfb1aab624d5b66e",
		initiator: "6e8ceeb901bcc8f83eb99d834df128d814e41b1074ac6729091888811d7c6e9d",
		responder: "90a19e2267351bb1b898c6828c01415f6e7cb981097af4621b0f906fd1a69195",
	},
	{
		name:     "prologue",
		prologue: "6e6f74736563726574",
		messages: [3]vectorMessage{
			{"", "358072d6365880d1aeea329adf9121383851ed21a28e3b75e965d0d2cd16625454a218352d64c1f8c239416ccb542aec"},
			{"", "64b101b1d0be5a8704bd078f9895001fc03e8e9f9522f188dd128d9846d4846622df46c0ac1e0fc71795a84e37cc0e963d131c8e84c02cd5cfcfe8def3fe128b58733b0ab529b3f48ed3fbe90840f1a27404f52be696831ccb795d1bdee31d33"},
			{"", "462127adbe047db3d1fce0581b5447d99b606c591545a7719132e0c91fe93d12fb91ca67cf72f381bab072bd9e6efef157067416654408489b43ba2fb6173b66"},
		},
		transport: [2]vectorMessage{
			{"79656c6c6f777375626d6172696e65", "75fff8afebd2f14da1cac9cc5b5201395cdf2ad65f3a97804e360c16f4e2ac"},
			{"7375626d6172696e6579656c6c6f77", "150cc85f79f9ca0f0730b8b4707805ed1969ff6b2770a5d466cd2754802805"},
		},
		hash:      "d883a26eb4e2e7d50765ef6bd7a492f49e498a309b8cb6bcba837aa67f007316",
		initiator: "237074ff03bbc848a119baadec1df7178acaaeb75959c47f0206043407afa697",
		responder: "6641fecab3ca841e1d1478bfaf80543921eac407b7f53cc01b213ab6d176afbf",
	},
	{
		name:     "prologue and payloads",
		prologue: "6e6f74736563726574",
		messages: [3]vectorMessage{
			{"746573745f6d73675f30", "358072d6365880d1aeea329adf9121383851ed21a28e3b75e965d0d2cd1662547f533cf20723ac4407c87f43dc5dc6f6d1867a322a706af81adb"},
			{"746573745f6d73675f31", "64b101b1d0be5a8704bd078f9895001fc03e8e9f9522f188dd128d9846d4846622df46c0ac1e0fc71795a84e37cc0e963d131c8e84c02cd5cfcfe8def3fe128b59d623ffc18ae67b1acba43eb87910b02dc6c1642ae7e8ae8c8e861ed15d8d6b65ff99f73d8286cc9819"},
			{"746573745f6d73675f32", "462127adbe047db3d1fce0581b5447d99b606c591545a7719132e0c91fe93d1294b31017013e8ac0a697b42922a5fe204111b0bfa4fdeb4704a4b5492137b40088f810ee4d1a58882e25"},
		},
		transport: [2]vectorMessage{
			{"79656c6c6f777375626d6172696e65", "75fff8afebd2f14da1cac9cc5b5201395cdf2ad65f3a97804e360c16f4e2ac"},
			{"7375626d6172696e6579656c6c6f77", "150cc85f79f9ca0f0730b8b4707805ed1969ff6b2770a5d466cd2754802805"},
		},
		hash:      "6a917941b01c746412246a4d4ef106661cf0ac709d0590e4ec9384ea4f81dcb4",
		initiator: "13c69d1e25d9fc7a7fa630f1c7b1caf797f8808c85127eeeca838b9693fea463",
		responder: "5ca8473bacc18dd6e98f5c9d6754cea423ae65ca7e42307e718c062ea68e649c",
	},
}

// vectorSide returns a Handshake whose static, ephemeral and pre-shared keys are a vector's.
func vectorSide(t *testing.T, initiator bool, prologue, static, ephemeral string) *Handshake {
	t.Helper()
	private, err := ecdh.X25519().NewPrivateKey(unhex(t, static))
	if err != nil {
		t.Fatal(err)
	}
	id := &Identity{secret: &identitySecret{dh: private}}
	kr := &Keyring{network: &seedKeys{psk: [keySize]byte(unhex(t, vectorPSK))}}
	if initiator {
		// The ephemeral key is chosen before it is asked for.
		h, err := NewInitiator(id, kr, Hash{}, unhex(t, prologue))
		if err != nil {
			t.Fatal(err)
		}
		h.dh.ephemeral = newEphemeralKey(x25519.Key(unhex(t, ephemeral)))
		return h
	}
	h, err := NewResponder(id, kr, unhex(t, prologue))
	if err != nil {
		t.Fatal(err)
	}
	h.dh.ephemeral = newEphemeralKey(x25519.Key(unhex(t, ephemeral)))
	return h
}

// The vectors, through Handshake itself: messages, and the traffic secrets that follow from them.
func TestHandshakeVectors(t *testing.T) {
	for _, v := range noiseVectors {
		t.Run(v.name, func(t *testing.T) {
			initiator := vectorSide(t, true, v.prologue, vectorInitStatic, vectorInitEphemeral)
			responder := vectorSide(t, false, v.prologue, vectorRespStatic, vectorRespEphemeral)
			from, to := initiator, responder
			for i, m := range v.messages {
				msg, err := from.WriteMessage(nil, unhex(t, m.payload))
				if err != nil || !bytes.Equal(msg, unhex(t, m.ciphertext)) {
					t.Fatalf("message %d is %x, %v, want %s", i+1, msg, err, m.ciphertext)
				}
				payload, err := to.ReadMessage(nil, msg)
				if err != nil || !bytes.Equal(payload, unhex(t, m.payload)) {
					t.Fatalf("payload %d is %x, %v", i+1, payload, err)
				}
				from, to = to, from
			}
			for _, side := range []*Handshake{initiator, responder} {
				i, r, err := side.Secrets()
				if err != nil || !bytes.Equal(i[:], unhex(t, v.initiator)) || !bytes.Equal(r[:], unhex(t, v.responder)) {
					t.Errorf("secrets are %x, %x, %v", i[:], r[:], err)
				}
			}
		})
	}
}

// The vectors' transport messages and handshake hashes, through the noise state as Handshake sets it up.
func TestNoiseVectorsSplit(t *testing.T) {
	for _, v := range noiseVectors {
		t.Run(v.name, func(t *testing.T) {
			sides := [2]*Handshake{
				vectorSide(t, true, v.prologue, vectorInitStatic, vectorInitEphemeral),
				vectorSide(t, false, v.prologue, vectorRespStatic, vectorRespEphemeral),
			}
			var states [2]*noise.HandshakeState
			for i, side := range sides {
				var err error
				if states[i], err = side.newNoise(side.kr.network); err != nil {
					t.Fatal(err)
				}
			}
			var written, read [2]*noise.CipherState
			for i, m := range v.messages {
				msg, w1, w2, err := states[i%2].WriteMessage(nil, unhex(t, m.payload))
				if err != nil || !bytes.Equal(msg, unhex(t, m.ciphertext)) {
					t.Fatalf("message %d is %x, %v", i+1, msg, err)
				}
				_, r1, r2, err := states[1-i%2].ReadMessage(nil, msg)
				if err != nil {
					t.Fatal(err)
				}
				written, read = [2]*noise.CipherState{w1, w2}, [2]*noise.CipherState{r1, r2}
			}
			for i, m := range v.transport {
				sealed, err := written[i].Encrypt(nil, nil, unhex(t, m.payload))
				if err != nil || !bytes.Equal(sealed, unhex(t, m.ciphertext)) {
					t.Errorf("transport message %d is %x, %v", i, sealed, err)
				}
				if opened, err := read[i].Decrypt(nil, nil, sealed); err != nil || !bytes.Equal(opened, unhex(t, m.payload)) {
					t.Errorf("transport message %d opens to %x, %v", i, opened, err)
				}
			}
			for _, state := range states {
				if !bytes.Equal(state.ChannelBinding(), unhex(t, v.hash)) {
					t.Errorf("handshake hash is %x", state.ChannelBinding())
				}
			}
		})
	}
}
