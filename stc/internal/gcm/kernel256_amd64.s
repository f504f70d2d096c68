//go:build !purego

#include "textflag.h"
#include "go_asm.h"

// AES-256-GCM with VAES, VPCLMULQDQ and AVX2, for processors without AVX-512. All is as in kernel_amd64.s, which explains it, but
// for this: vectors hold two blocks, and a turn is 128 bytes; there are 16 registers, so that round keys come from memory; and
// there are no masks, so that the bytes of a vector that is not full are the caller's to copy. The tail's key stream is made at
// once, for latency.

// Registers of crypt256, as those of crypt. R12 is the key stream left, on the stack.

#define S0 Y0 // AES states, two blocks each
#define S1 Y1
#define S2 Y2
#define S3 Y3
#define D0 Y4
#define D1 Y5
#define D2 Y6
#define D3 Y7
#define LO Y8
#define MID Y9
#define HI Y10
#define T Y11
#define HASH Y12
#define HASHX X12
#define CTR Y13
#define CTRX X13
#define BSWAP Y14
#define BSWAPX X14
#define KEY Y15 // a round key, twice

#define H8 kernel_powers+144
#define H1 kernel_powers+256

DATA bswap2<>+0(SB)/8, $0x08090a0b0c0d0e0f
DATA bswap2<>+8(SB)/8, $0x0001020304050607
DATA bswap2<>+16(SB)/8, $0x08090a0b0c0d0e0f
DATA bswap2<>+24(SB)/8, $0x0001020304050607
GLOBL bswap2<>(SB), NOPTR|RODATA, $32

DATA poly2<>+0(SB)/8, $0x0000000000000001
DATA poly2<>+8(SB)/8, $0xc200000000000000
DATA poly2<>+16(SB)/8, $0x0000000000000001
DATA poly2<>+24(SB)/8, $0xc200000000000000
GLOBL poly2<>(SB), NOPTR|RODATA, $32

DATA carry<>+0(SB)/8, $0x0000000000000001
DATA carry<>+8(SB)/8, $0xc200000000000001
GLOBL carry<>(SB), NOPTR|RODATA, $16

DATA zeroOne<>+16(SB)/8, $1
GLOBL zeroOne<>(SB), NOPTR|RODATA, $32

DATA two<>+0(SB)/8, $2
DATA two<>+16(SB)/8, $2
GLOBL two<>(SB), NOPTR|RODATA, $32

// A load from n bytes before its middle masks all but the first n bytes.
DATA mask<>+0(SB)/8, $-1
DATA mask<>+8(SB)/8, $-1
DATA mask<>+16(SB)/8, $-1
DATA mask<>+24(SB)/8, $-1
GLOBL mask<>(SB), NOPTR|RODATA, $64

// ------------------------------------------------------------------------------------------------------------- AES

#define COUNTERS(state) \
	VPSHUFB BSWAP, CTR, state       \
	VPADDD  two<>(SB), CTR, CTR     \
	VPXOR   KEY, state, state

#define COUNTERS4 \
	VBROADCASTI128 (DI), KEY \
	COUNTERS(S0) \
	COUNTERS(S1) \
	COUNTERS(S2) \
	COUNTERS(S3)

#define ROUND4(offset) \
	VBROADCASTI128 offset(DI), KEY \
	VAESENC KEY, S0, S0 \
	VAESENC KEY, S1, S1 \
	VAESENC KEY, S2, S2 \
	VAESENC KEY, S3, S3

#define LAST(state, data, offset) \
	VPXOR       offset(SI), KEY, data \
	VAESENCLAST data, state, data     \
	VMOVDQU     data, offset(R9)

#define LAST4 \
	VBROADCASTI128 224(DI), KEY \
	LAST(S0, D0, 0)  \
	LAST(S1, D1, 32) \
	LAST(S2, D2, 64) \
	LAST(S3, D3, 96)

#define ROUNDS4 \
	ROUND4(16)  \
	ROUND4(32)  \
	ROUND4(48)  \
	ROUND4(64)  \
	ROUND4(80)  \
	ROUND4(96)  \
	ROUND4(112) \
	ROUND4(128) \
	ROUND4(144) \
	ROUND4(160) \
	ROUND4(176) \
	ROUND4(192) \
	ROUND4(208)

// ----------------------------------------------------------------------------------------------------------- GHASH

#define SWAP4 \
	VPSHUFB BSWAP, D0, D0 \
	VPSHUFB BSWAP, D1, D1 \
	VPSHUFB BSWAP, D2, D2 \
	VPSHUFB BSWAP, D3, D3

#define MUL(h, data) \
	VPCLMULQDQ $0x00, h, data, LO  \
	VPCLMULQDQ $0x01, h, data, MID \
	VPCLMULQDQ $0x10, h, data, T   \
	VPCLMULQDQ $0x11, h, data, HI  \
	VPXOR      T, MID, MID

#define MULADD(h, data, t) \
	VPCLMULQDQ $0x00, h, data, T   \
	VPXOR      T, LO, LO           \
	VPCLMULQDQ $0x11, h, data, t   \
	VPXOR      t, HI, HI           \
	VPCLMULQDQ $0x01, h, data, T   \
	VPCLMULQDQ $0x10, h, data, t   \
	VPXOR      T, MID, MID         \
	VPXOR      t, MID, MID

#define REDUCE1 \
	VPCLMULQDQ $0x10, poly2<>(SB), LO, T \
	VPSHUFD    $0x4e, LO, LO             \
	VPXOR      T, MID, MID               \
	VPXOR      LO, MID, MID

#define REDUCE2 \
	VPCLMULQDQ $0x10, poly2<>(SB), MID, T \
	VPSHUFD    $0x4e, MID, MID            \
	VPXOR      T, HI, HI                  \
	VPXOR      MID, HI, HI

#define FOLD \
	VEXTRACTI128 $1, HI, HASHX     \
	VPXOR        X10, HASHX, HASHX

#define ROUNDSANDHASH \
	ROUND4(16) \
	MUL(H8(DI), D0) \
	ROUND4(32) \
	ROUND4(48) \
	MULADD(H8+32(DI), D1, HASH) \
	ROUND4(64) \
	ROUND4(80) \
	MULADD(H8+64(DI), D2, HASH) \
	ROUND4(96) \
	ROUND4(112) \
	MULADD(H8+96(DI), D3, HASH) \
	ROUND4(128) \
	REDUCE1 \
	ROUND4(144) \
	ROUND4(160) \
	REDUCE2 \
	ROUND4(176) \
	ROUND4(192) \
	FOLD \
	ROUND4(208)

#define CLEARSUM \
	VPXOR X8, X8, X8   \
	VPXOR X9, X9, X9   \
	VPXOR X10, X10, X10

// ABSORB adds the products of the two blocks in D0 and the powers at R11 to the sum, HASH included.
#define ABSORB \
	VPSHUFB BSWAP, D0, D0       \
	VPXOR   HASH, D0, D0        \
	VPXOR   HASHX, HASHX, HASHX \
	MULADD((R11), D0, D1)       \
	ADDQ    $32, R11

// func crypt256(k *kernel, s *state, dst, src *byte, n int, ad *byte, adLen int, encrypt, last bool)
TEXT ·crypt256(SB), NOSPLIT, $128-58
	MOVQ k+0(FP), DI
	MOVQ s+8(FP), R8
	MOVQ dst+16(FP), R9
	MOVQ src+24(FP), SI
	MOVQ n+32(FP), CX
	MOVQ ad+40(FP), DX
	MOVQ adLen+48(FP), R10

	VMOVDQU     bswap2<>(SB), BSWAP
	VMOVQ       state_counter(R8), CTRX
	VPINSRQ     $1, state_counter+8(R8), CTRX, CTRX
	VMOVDQU     state_hash(R8), HASHX

	// J0 is this message's counter block with the number 1.
	MOVL        $1, AX
	VPINSRD     $0, AX, CTRX, X0
	VPSHUFB     BSWAPX, X0, X0
	VPXOR       (DI), X0, X0
	VAESENC     16(DI), X0, X0
	VAESENC     32(DI), X0, X0
	VAESENC     48(DI), X0, X0
	VAESENC     64(DI), X0, X0
	VAESENC     80(DI), X0, X0
	VAESENC     96(DI), X0, X0
	VAESENC     112(DI), X0, X0
	VAESENC     128(DI), X0, X0
	VAESENC     144(DI), X0, X0
	VAESENC     160(DI), X0, X0
	VAESENC     176(DI), X0, X0
	VAESENC     192(DI), X0, X0
	VAESENC     208(DI), X0, X0
	VAESENCLAST 224(DI), X0, X0
	VMOVDQU     X0, state_tag(R8)

	VINSERTI128 $1, CTRX, CTR, CTR
	VPADDD      zeroOne<>(SB), CTR, CTR

	// Additional data, up to 128 bytes a reduction. The first of r blocks takes Hʳ.
ad:
	TESTQ   R10, R10
	JZ      adDone
	MOVQ    $128, BX
	CMPQ    R10, BX
	CMOVQLT R10, BX
	SUBQ    BX, R10
	LEAQ    15(BX), AX
	ANDQ    $-16, AX
	LEAQ    H1+16(DI), R11
	SUBQ    AX, R11
	CLEARSUM

ad32:
	CMPQ    BX, $32
	JB      adPart
	VMOVDQU (DX), D0
	ABSORB
	ADDQ    $32, DX
	SUBQ    $32, BX
	JNZ     ad32
	JMP     adReduce

adPart:
	VMOVDQU state_ad(R8), D0
	ABSORB

adReduce:
	REDUCE1
	REDUCE2
	FOLD
	JMP ad

adDone:
	CMPQ CX, $128
	JB   tail
	CMPB encrypt+56(FP), $0
	JE   open

	// Seal. D0 to D3 hold the ciphertext that is not hashed yet.
	COUNTERS4
	ROUNDS4
	LAST4
	SWAP4
	ADDQ $128, SI
	ADDQ $128, R9
	SUBQ $128, CX

seal128:
	VPXOR HASH, D0, D0
	CMPQ  CX, $128
	JB    sealDone
	COUNTERS4
	ROUNDSANDHASH
	LAST4
	SWAP4
	ADDQ  $128, SI
	ADDQ  $128, R9
	SUBQ  $128, CX
	JMP   seal128

sealDone:
	MUL(H8(DI), D0)
	MULADD(H8+32(DI), D1, HASH)
	MULADD(H8+64(DI), D2, HASH)
	MULADD(H8+96(DI), D3, HASH)
	REDUCE1
	REDUCE2
	FOLD
	JMP tail

open:
	VMOVDQU (SI), D0
	VMOVDQU 32(SI), D1
	VMOVDQU 64(SI), D2
	VMOVDQU 96(SI), D3
	SWAP4
	VPXOR   HASH, D0, D0
	COUNTERS4
	ROUNDSANDHASH
	LAST4
	ADDQ    $128, SI
	ADDQ    $128, R9
	SUBQ    $128, CX
	CMPQ    CX, $128
	JAE     open

tail:
	CMPB last+57(FP), $0
	JE   more

	// With the block of lengths behind them the first of r blocks takes H to the r+1.
	LEAQ  15(CX), AX
	ANDQ  $-16, AX
	LEAQ  H1(DI), R11
	SUBQ  AX, R11
	CLEARSUM
	TESTQ CX, CX
	JZ    lengths
	COUNTERS4
	ROUNDS4
	VBROADCASTI128 224(DI), KEY
	VAESENCLAST    KEY, S0, S0
	VAESENCLAST    KEY, S1, S1
	VAESENCLAST    KEY, S2, S2
	VAESENCLAST    KEY, S3, S3
	VMOVDQU        S0, 0(SP)
	VMOVDQU        S1, 32(SP)
	VMOVDQU        S2, 64(SP)
	VMOVDQU        S3, 96(SP)
	MOVQ           SP, R12

tail32:
	CMPQ    CX, $32
	JB      part
	VMOVDQU (SI), D0
	VPXOR   (R12), D0, S0
	VMOVDQU S0, (R9)
	CMPB    encrypt+56(FP), $0
	JE      tailHash
	VMOVDQA S0, D0

tailHash:
	ABSORB
	ADDQ $32, SI
	ADDQ $32, R9
	ADDQ $32, R12
	SUBQ $32, CX
	JNZ  tail32
	JMP  lengths

	// The last 1 to 31 bytes, CX of them.
part:
	VMOVDQU state_text(R8), D0
	VPXOR   (R12), D0, S0
	VMOVDQU S0, state_text(R8)
	CMPB    encrypt+56(FP), $0
	JE      partHash
	LEAQ    mask<>+32(SB), AX
	SUBQ    CX, AX
	VPAND   (AX), S0, D0       // without the key stream behind the message's end

partHash:
	ABSORB

lengths:
	VPXOR   state_bits(R8), HASHX, X4
	MULADD(H1(DI), D0, D1)
	REDUCE1
	REDUCE2
	FOLD
	VPSHUFB BSWAPX, HASHX, HASHX
	VPXOR   state_tag(R8), HASHX, HASHX
	VMOVDQU HASHX, state_tag(R8)

	// No key stream stays behind.
	VPXOR   X4, X4, X4
	VMOVDQU D0, 0(SP)
	VMOVDQU D0, 32(SP)
	VMOVDQU D0, 64(SP)
	VMOVDQU D0, 96(SP)
	VZEROUPPER
	RET

more:
	VMOVDQU HASHX, state_hash(R8)
	VMOVDQU CTRX, state_counter(R8)
	VZEROUPPER
	RET

// ------------------------------------------------------------------------------------------------------------ keys

#define CASCADE(key, word, offset) \
	VPSHUFD $word, X2, X2 \
	VPSLLDQ $4, key, X3   \
	VPXOR   X3, key, key  \
	VPSLLDQ $4, X3, X3    \
	VPXOR   X3, key, key  \
	VPSLLDQ $4, X3, X3    \
	VPXOR   X3, key, key  \
	VPXOR   X2, key, key  \
	VMOVDQU key, offset(DI)

#define EVEN(constant, offset) \
	VAESKEYGENASSIST $constant, X1, X2 \
	CASCADE(X0, 0xff, offset)

#define ODD(offset) \
	VAESKEYGENASSIST $0, X0, X2 \
	CASCADE(X1, 0xaa, offset)

// func expand256(k *kernel, key *[keySize]byte)
TEXT ·expand256(SB), NOSPLIT, $0-16
	MOVQ    k+0(FP), DI
	MOVQ    key+8(FP), SI
	VMOVDQU 0(SI), X0
	VMOVDQU 16(SI), X1
	VMOVDQU X0, 0(DI)
	VMOVDQU X1, 16(DI)
	EVEN(1, 32)
	ODD(48)
	EVEN(2, 64)
	ODD(80)
	EVEN(4, 96)
	ODD(112)
	EVEN(8, 128)
	ODD(144)
	EVEN(16, 160)
	ODD(176)
	EVEN(32, 192)
	ODD(208)
	EVEN(64, 224)

	// H is the encryption of zero.
	VMOVDQU 0(DI), X4
	LEAQ    16(DI), AX
	LEAQ    224(DI), BX

round:
	VAESENC     (AX), X4, X4
	ADDQ        $16, AX
	CMPQ        AX, BX
	JNE         round
	VAESENCLAST (BX), X4, X4
	VPSHUFB     bswap2<>(SB), X4, X4

	// Times x.
	VPSHUFD $0xd3, X4, X5
	VPSRAD  $31, X5, X5
	VPAND   carry<>(SB), X5, X5
	VPADDQ  X4, X4, X4
	VPXOR   X5, X4, X4

	// H¹ at the highest place and its powers downwards.
	LEAQ    H1(DI), AX
	LEAQ    kernel_powers(DI), BX
	VMOVDQU X4, (AX)
	VMOVDQA X4, X10

power:
	VMOVDQA X10, X0
	MUL(S0, D0)
	REDUCE1
	REDUCE2
	SUBQ    $16, AX
	VMOVDQU X10, (AX)
	CMPQ    AX, BX
	JNE     power
	VZEROUPPER
	RET

// func leaf7() (ecx uint32)
TEXT ·leaf7(SB), NOSPLIT, $0-4
	MOVL $7, AX
	XORL CX, CX
	CPUID
	MOVL CX, ecx+0(FP)
	RET
