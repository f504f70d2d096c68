package stc

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"math/big"
	"testing"

	"filippo.io/edwards25519"
)

// Identities must never change: these values were computed by a second implementation of the key tree in doc.go, written in
// another language from that text alone. The third seed needs a second counter value.
var goldenIdentities = []struct {
	seed, public, x25519, nodeID, storeKey, derived, signature string
}{
	{
		seed:      "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f",
		public:    "d52694cc83e225ccd6bd1789d3fa9336183875ac891421487a181d488bfbe800",
		x25519:    "8c63880e5ffcae8c3fa481c885430b7f44e40ad4d05e3f0eeb15b229ef17e63d",
		nodeID:    "154cfb48c266c259414e58615e5952fc9d43a4e1325770d17698b2679a9b07a6",
		storeKey:  "7406aad27e642f9b6376bb34963624c972e739922387c69d001b9bc4959aa34b",
		derived:   "a67da007883eeae49bc92fb89649f2feb8b8a2cdd6db2b5fcca441ba0e35d6b9",
		signature: "6db7716c6abc34020a8dbdad32ff844e5cecd07a02c0052886a60ee6e26a62a0f18cee310e7eaace886095ad7f5b6e31fba65c3d6b27d7d70082c5ed6a684d01",
	},
	{
		seed:      "0101010101010101010101010101010101010101010101010101010101010101",
		public:    "6f29bc6fba23b42aca691f5ea05bdeaab821bc3be041dbd55dd5f48a1670a30a",
		x25519:    "6ec6b23ac0b5b820fad723c6b533fa662f4c966983acd92d56d5b4302e4ff74c",
		nodeID:    "0ae0b5b55c396052c1f179f30213e69ebf0a05d048917995a1da13e0504b4ed2",
		storeKey:  "6ab85e1b5fb986cd81e6df2af689748587fcbf1557210c17cb16bad9a7ac6403",
		derived:   "2a55ecc0f66510b17df9264a2c90340a2b244a04720b01e5f36d8acd0289198f",
		signature: "4333777ac455ca131c894a34c4e7ece99e48f2173b39d2eabc0e4972b1d2f99ab051e513e32343ea7066bbda50308642d2fe6a59834353b3059d6f623987dc0d",
	},
	{
		seed:      "020202020202020202020202020202020202020202020202020202020202020202",
		public:    "e36447ae01ecdaf622b520a6f1d5cb9e6d0d95b029b7e35c2de3fb7aaf2c2a0c",
		x25519:    "d041c7d3e9a69bb16020f3d66c81306b0b8aabf504c58d2f5af473e35d543d4f",
		nodeID:    "d60699946bb743ed5b5158887a1d1186df18c198714a3e22026085c94841db2c",
		storeKey:  "ac6dae14ed89699182b2217f611a6f124ecca6c82655b32f8f9fe98bcf07f265",
		derived:   "aace641850f1817a76c0c938d3302b650180050e739c8b2b5e7b37a7ac238f7f",
		signature: "73f89e9f477175c91c83ef5d283dd48394b2bb16731d851b22031ca4fa366f3f07f902a0e0a553009c63e083d5ea6d94c55b0c2fbfd9de1ac197d6cdbfa8e10b",
	},
}

func TestIdentityGolden(t *testing.T) {
	for _, g := range goldenIdentities {
		id, err := NewIdentity(unhex(t, g.seed))
		if err != nil {
			t.Fatal(err)
		}
		x, err := id.PublicKey().X25519()
		if err != nil {
			t.Fatal(err)
		}
		store, derived := id.StoreKey(), id.DeriveKey("control socket")
		for _, c := range []struct {
			what      string
			got, want []byte
		}{
			{"public key", id.public[:], unhex(t, g.public)},
			{"X25519 key", x[:], unhex(t, g.x25519)},
			{"node ID", id.nodeID[:], unhex(t, g.nodeID)},
			{"store key", store[:], unhex(t, g.storeKey)},
			{"derived key", derived[:], unhex(t, g.derived)},
			{"signature", id.Sign([]byte("message")), unhex(t, g.signature)},
		} {
			if !bytes.Equal(c.got, c.want) {
				t.Errorf("seed %s: %s is %x, want %x", g.seed, c.what, c.got, c.want)
			}
		}
		if id.NodeID() != id.PublicKey().NodeID() {
			t.Errorf("seed %s: the identity and its public key differ about the node ID", g.seed)
		}
	}
}

func TestSeedTooShort(t *testing.T) {
	kr := testKeyring(t, 1)
	for _, n := range []int{0, 1, 31} {
		seed := make([]byte, n)
		if _, err := NewIdentity(seed); !errors.Is(err, ErrSeedTooShort) {
			t.Errorf("NewIdentity with %d bytes: %v", n, err)
		}
		if _, err := NewKeyring(seed); !errors.Is(err, ErrSeedTooShort) {
			t.Errorf("NewKeyring with %d bytes: %v", n, err)
		}
		if err := kr.SetPeerSeed(Sum(nil), seed); !errors.Is(err, ErrSeedTooShort) {
			t.Errorf("SetPeerSeed with %d bytes: %v", n, err)
		}
	}
	if _, err := NewIdentity(make([]byte, 32)); err != nil {
		t.Error(err)
	}
}

func TestSeedsAreUsedInFull(t *testing.T) {
	long := bytes.Repeat([]byte{5}, 100)
	a, _ := NewIdentity(long)
	long[99]++
	b, _ := NewIdentity(long)
	c, _ := NewIdentity(long[:32])
	if a.NodeID() == b.NodeID() || b.NodeID() == c.NodeID() {
		t.Error("bytes of the seed are ignored")
	}
}

// The X25519 key pair must be the birational image of the Ed25519 one: u = (1+y)/(1−y) mod 2²⁵⁵−19 (RFC 7748 §4.1), computed
// here with big integers; and the private halves must belong to it.
func TestIdentityBirationalMap(t *testing.T) {
	p := new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), 255), big.NewInt(19))
	r := testRand(t)
	for range 40 {
		id, err := NewIdentity(randomBytes(r, 32))
		if err != nil {
			t.Fatal(err)
		}
		if id.public[31]&0x80 != 0 {
			t.Fatalf("%v has its sign bit set", id)
		}
		y := new(big.Int).SetBytes(reversed(id.public[:]))
		u := new(big.Int).ModInverse(new(big.Int).Mod(new(big.Int).Sub(big.NewInt(1), y), p), p)
		u.Mul(u, new(big.Int).Add(big.NewInt(1), y)).Mod(u, p)
		want := reversed(u.FillBytes(make([]byte, 32)))

		if got := id.secret.dh.PublicKey().Bytes(); !bytes.Equal(got, want) {
			t.Errorf("public key of the X25519 private key is %x, want %x", got, want)
		}
		if got, err := id.PublicKey().X25519(); err != nil || !bytes.Equal(got[:], want) {
			t.Errorf("X25519() = %x, %v, want %x", got, err, want)
		}
		if back, err := publicKeyFromX25519(want); err != nil || back != id.PublicKey() {
			t.Errorf("the inverse map leads to %v, %v instead of %v", back, err, id.PublicKey())
		}
		if !id.PublicKey().Verify([]byte("m"), id.Sign([]byte("m"))) || id.PublicKey().Verify([]byte("n"), id.Sign([]byte("m"))) {
			t.Error("Verify")
		}
	}
}

// RFC 7748 §4.1 gives both forms of the base point.
func TestBasePointMap(t *testing.T) {
	base := PublicKey(unhex(t, "5866666666666666666666666666666666666666666666666666666666666666"))
	nine := append([]byte{9}, make([]byte, 31)...)
	if u, err := base.X25519(); err != nil || !bytes.Equal(u[:], nine) {
		t.Errorf("X25519() = %x, %v", u, err)
	}
	if key, err := publicKeyFromX25519(nine); err != nil || key != base {
		t.Errorf("publicKeyFromX25519(9) = %v, %v", key, err)
	}
}

func TestPublicKeyRefused(t *testing.T) {
	p25519 := "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"
	for name, s := range map[string]string{
		"zero: y = 0, order 4":            "0000000000000000000000000000000000000000000000000000000000000000",
		"y = 1, the neutral point":        "0100000000000000000000000000000000000000000000000000000000000000",
		"y = -1, order 2":                 "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
		"order 8":                         "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
		"order 8, the other":              "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
		"y = p, not canonical":            p25519,
		"y = p+1, not canonical":          "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
		"not on the curve":                "0200000000000000000000000000000000000000000000000000000000000000",
		"sign bit set":                    "58666666666666666666666666666666666666666666666666666666666666e6",
		"too short":                       "5866",
		"too long":                        "586666666666666666666666666666666666666666666666666666666666666600",
		"y = 4/5 + p does not fit, ff…ff": "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
	} {
		b := unhex(t, s)
		if key, err := ParsePublicKey(b); !errors.Is(err, ErrBadKey) || !key.IsZero() {
			t.Errorf("%s: ParsePublicKey = %v, %v", name, key, err)
		}
		if len(b) == PublicKeySize {
			if _, err := PublicKey(b).X25519(); !errors.Is(err, ErrBadKey) {
				t.Errorf("%s: X25519: %v", name, err)
			}
		}
	}
	id := testIdentity(t, 1)
	if key, err := ParsePublicKey(id.public[:]); err != nil || key != id.public {
		t.Errorf("ParsePublicKey of a good key = %v, %v", key, err)
	}
}

// A key whose sign bit is set signs correctly and is still nobody's: it would give its X25519 twin a second name.
func TestVerifyNeedsClearSignBit(t *testing.T) {
	for n := byte(0); ; n++ {
		private := ed25519.NewKeyFromSeed(seedOf(n))
		public := PublicKey(private.Public().(ed25519.PublicKey))
		if public[31]&0x80 != 0 {
			if public.Verify([]byte("m"), ed25519.Sign(private, []byte("m"))) {
				t.Error("verified")
			}
			return
		}
	}
}

// X25519 keys that no identity has: low order (the list of RFC 7748 §6.1's security considerations), not canonical, and
// points of the twist, which have no Edwards image.
func TestX25519KeyRefused(t *testing.T) {
	for name, s := range map[string]string{
		"0":               "0000000000000000000000000000000000000000000000000000000000000000",
		"1":               "0100000000000000000000000000000000000000000000000000000000000000",
		"order 8":         "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
		"order 8, other":  "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
		"-1":              "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
		"p":               "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
		"9 + p":           "f6ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
		"9 with high bit": "0900000000000000000000000000000000000000000000000000000000000080",
		"2, on the twist": "0200000000000000000000000000000000000000000000000000000000000000",
		"short":           "09",
	} {
		if key, err := publicKeyFromX25519(unhex(t, s)); !errors.Is(err, ErrBadKey) {
			t.Errorf("%s: %v, %v", name, key, err)
		}
	}
}

// Points with a torsion component are names for their owner only; the twin must not collide with the honest key.
func TestTorsionGivesAnotherName(t *testing.T) {
	id := testIdentity(t, 1)
	point, err := id.public.point()
	if err != nil {
		t.Fatal(err)
	}
	order8, err := new(edwards25519.Point).SetBytes(unhex(t, "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"))
	if err != nil {
		t.Fatal(err)
	}
	twin := new(edwards25519.Point).Add(point, order8).Bytes()
	twin[31] &= 0x7f
	if key, err := ParsePublicKey(twin); err == nil && key.NodeID() == id.NodeID() {
		t.Error("two keys with one node ID")
	}
}

// RFC 8032 §7.1, TEST 1 to 3, whose public keys have sign bit 0.
func TestVerifyRFC8032(t *testing.T) {
	for _, v := range []struct{ seed, public, msg, sig string }{
		{
			"9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
			"d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a", "",
			"e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
		},
		{
			"4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
			"3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c", "72",
			"92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
		},
		{
			"c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
			"fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025", "af82",
			"6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
		},
	} {
		key, err := ParsePublicKey(unhex(t, v.public))
		if err != nil {
			t.Fatal(err)
		}
		sig := unhex(t, v.sig)
		if !key.Verify(unhex(t, v.msg), sig) {
			t.Errorf("signature of %s does not verify", v.public)
		}
		sig[0] ^= 1
		if key.Verify(unhex(t, v.msg), sig) {
			t.Errorf("altered signature of %s verifies", v.public)
		}
		// The private side as Identity uses it.
		private := ed25519.NewKeyFromSeed(unhex(t, v.seed))
		id := &Identity{secret: &identitySecret{signing: private}}
		if got := id.Sign(unhex(t, v.msg)); !bytes.Equal(got, unhex(t, v.sig)) {
			t.Errorf("Sign = %x", got)
		}
	}
}

// RFC 7748 §5.2 and §6.1, through the DH function of the handshake.
func TestX25519RFC7748(t *testing.T) {
	for _, v := range []struct{ private, public, shared string }{
		{
			"a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4",
			"e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c",
			"c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552",
		},
		{
			"4b66e9d4d1b4673c5ad22691957d6af5c11b6421e0ea01d42ca4169e7918ba0d",
			"e5210f12786811d3f4b7959d0538ae2c31dbe7106fc03c3efc4cd549c715a493",
			"95cbde9476e8907d7aade45cb4b873f88b595a68799fa152e6f8f7647aac7957",
		},
		{ // Alice's private key, Bob's public key
			"77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a",
			"de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f",
			"4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742",
		},
		{ // Bob's private key, Alice's public key
			"5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb",
			"8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a",
			"4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742",
		},
	} {
		got, err := new(handshakeDH).DH(unhex(t, v.private), unhex(t, v.public))
		if err != nil || !bytes.Equal(got, unhex(t, v.shared)) {
			t.Errorf("DH = %x, %v, want %s", got, err, v.shared)
		}
	}
}

func reversed(b []byte) []byte {
	out := make([]byte, len(b))
	for i := range b {
		out[len(b)-1-i] = b[i]
	}
	return out
}
