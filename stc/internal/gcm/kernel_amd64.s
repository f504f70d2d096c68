//go:build !purego

#include "textflag.h"
#include "go_asm.h"

// AES-256-GCM with VAES, VPCLMULQDQ and AVX-512. crypt's flow:
//
//	setup         round keys into registers; E(J0), which masks the tag, into state.tag
//	ad            GHASH of the additional data
//	seal or open  256 bytes a turn: 16 counter blocks through AES while 16 blocks of ciphertext go through GHASH. Opening,
//	              they are the turn's own; sealing, those of the turn before, since this one's don't exist yet
//	tail          the remaining 0 to 255 bytes, 64 a turn, and the block of lengths
//	              (only in a message's last call; the others store hash and counter and return)
//
// GHASH. Bytes of a block are reversed after loading, so that the field's polynomials lie in registers bit by bit in reverse
// order. A carry-less product of two such values comes out shifted right by one, which expand makes up for by storing
// powers of H times x. Of r blocks the first is multiplied with Hʳ, the last with H¹, and all products are added up before
// one reduction; r is at most 16, or 17 with the block of lengths. Reduction folds the low half into the high one, 64 bits
// at a time, with the constant of x¹²⁸+x⁷+x²+x+1 in this bit order (Gueron, Kounavis: Intel's paper on PCLMULQDQ and GCM).
// VPTERNLOGQ $0x96 is a XOR of three.
//
// Counters stay byte-reversed, too, so that VPADDD counts; SP 800-38D wants 32 bits that wrap.
//
// Nothing branches on, or addresses by, anything but lengths and flags.

// Registers of crypt. expand uses some of the same names.
//
//	DI key, R8 state, R9 dst, SI src, CX bytes left, DX ad, R10 bytes of ad left, R11 powers of H, AX and BX scratch
//	K1 the bytes of a vector that exist

#define S0 Z0 // AES states, four blocks each
#define S1 Z1
#define S2 Z2
#define S3 Z3
#define D0 Z4 // data, or blocks to hash
#define D1 Z5
#define D2 Z6
#define D3 Z7
#define LO Z8 // sums of products not yet reduced: low × low,
#define MID Z9 // low × high and high × low,
#define HI Z10 // high × high
#define T Z11 // scratch
#define HASH Z12 // GHASH so far, in the lowest block; the others are zero. Scratch between its use and the next reduction
#define HASHY Y12
#define HASHX X12
#define CTR Z13 // the next four counter blocks
#define CTRX X13
#define FOUR Z14 // what adds 4 to each
#define BSWAP Z15 // shuffle that reverses the bytes of each block
#define BSWAPX X15
#define POLY Z16 // constant of the reduction
#define RK0 Z17 // round keys, each four times
#define RK1 Z18
#define RK2 Z19
#define RK3 Z20
#define RK4 Z21
#define RK5 Z22
#define RK6 Z23
#define RK7 Z24
#define RK8 Z25
#define RK9 Z26
#define RK10 Z27
#define RK11 Z28
#define RK12 Z29
#define RK13 Z30
#define RK14 Z31

// Where powers of H lie in a kernel.
#define H17 kernel_powers+0
#define H16 kernel_powers+16
#define H1 kernel_powers+256

DATA bswap<>+0(SB)/8, $0x08090a0b0c0d0e0f
DATA bswap<>+8(SB)/8, $0x0001020304050607
GLOBL bswap<>(SB), NOPTR|RODATA, $16

DATA poly<>+0(SB)/8, $0x0000000000000001
DATA poly<>+8(SB)/8, $0xc200000000000000
GLOBL poly<>(SB), NOPTR|RODATA, $16

// poly, and in the middle the bit that a shift by one carries from the low to the high half.
DATA polycarry<>+0(SB)/8, $0x0000000000000001
DATA polycarry<>+8(SB)/8, $0xc200000000000001
GLOBL polycarry<>(SB), NOPTR|RODATA, $16

// Added to four equal counter blocks these are the next four.
DATA zeroToThree<>+16(SB)/8, $1
DATA zeroToThree<>+32(SB)/8, $2
DATA zeroToThree<>+48(SB)/8, $3
GLOBL zeroToThree<>(SB), NOPTR|RODATA, $64

DATA four<>+0(SB)/8, $4
GLOBL four<>(SB), NOPTR|RODATA, $16

// ------------------------------------------------------------------------------------------------------------- AES

// COUNTERS sets state to the next four counter blocks, with the first round key added.
#define COUNTERS(state) \
	VPSHUFB BSWAP, CTR, state \
	VPADDD  FOUR, CTR, CTR    \
	VPXORQ  RK0, state, state

#define COUNTERS4 \
	COUNTERS(S0) \
	COUNTERS(S1) \
	COUNTERS(S2) \
	COUNTERS(S3)

#define ROUND4(key) \
	VAESENC key, S0, S0 \
	VAESENC key, S1, S1 \
	VAESENC key, S2, S2 \
	VAESENC key, S3, S3

// LAST does a state's last round, and leaves the 64 bytes at offset in src XOR key stream in data and in dst. The XOR is with
// the last round key, before the state is there, so that nothing waits for it.
#define LAST(state, data, offset) \
	VPXORQ      offset(SI), RK14, data \
	VAESENCLAST data, state, data      \
	VMOVDQU64   data, offset(R9)

#define LAST4 \
	LAST(S0, D0, 0)   \
	LAST(S1, D1, 64)  \
	LAST(S2, D2, 128) \
	LAST(S3, D3, 192)

// ----------------------------------------------------------------------------------------------------------- GHASH

#define SWAP4 \
	VPSHUFB BSWAP, D0, D0 \
	VPSHUFB BSWAP, D1, D1 \
	VPSHUFB BSWAP, D2, D2 \
	VPSHUFB BSWAP, D3, D3

// MUL starts a sum with the products of four blocks and the powers in h, a register or memory.
#define MUL(h, data) \
	VPCLMULQDQ $0x00, h, data, LO  \
	VPCLMULQDQ $0x01, h, data, MID \
	VPCLMULQDQ $0x10, h, data, T   \
	VPCLMULQDQ $0x11, h, data, HI  \
	VPXORQ     T, MID, MID

// MULADD adds the products of four blocks and the powers in h to the sum; t is scratch.
#define MULADD(h, data, t) \
	VPCLMULQDQ $0x00, h, data, T   \
	VPXORQ     T, LO, LO           \
	VPCLMULQDQ $0x11, h, data, t   \
	VPXORQ     t, HI, HI           \
	VPCLMULQDQ $0x01, h, data, T   \
	VPCLMULQDQ $0x10, h, data, t   \
	VPTERNLOGQ $0x96, T, t, MID

// REDUCE1, REDUCE2 and FOLD make HASH of the sum: two steps of the reduction, four times side by side, then the sum of the
// four results.
#define REDUCE1 \
	VPCLMULQDQ $0x01, LO, POLY, T  \
	VPSHUFD    $0x4e, LO, LO       \
	VPTERNLOGQ $0x96, T, LO, MID

#define REDUCE2 \
	VPCLMULQDQ $0x01, MID, POLY, T \
	VPSHUFD    $0x4e, MID, MID     \
	VPTERNLOGQ $0x96, T, MID, HI

#define FOLD \
	VEXTRACTI64X4 $1, HI, HASHY        \
	VPXOR         HASHY, Y10, Y10      \
	VEXTRACTI128  $1, Y10, HASHX       \
	VPXOR         X10, HASHX, HASHX

// ROUNDSANDHASH does rounds 1 to 13 of 16 counter blocks, and meanwhile makes HASH of the 16 blocks in D0 to D3.
#define ROUNDSANDHASH \
	ROUND4(RK1) \
	MUL(H16(DI), D0) \
	ROUND4(RK2) \
	ROUND4(RK3) \
	MULADD(H16+64(DI), D1, HASH) \
	ROUND4(RK4) \
	ROUND4(RK5) \
	MULADD(H16+128(DI), D2, HASH) \
	ROUND4(RK6) \
	ROUND4(RK7) \
	MULADD(H16+192(DI), D3, HASH) \
	ROUND4(RK8) \
	REDUCE1 \
	ROUND4(RK9) \
	ROUND4(RK10) \
	REDUCE2 \
	ROUND4(RK11) \
	ROUND4(RK12) \
	FOLD \
	ROUND4(RK13)

#define CLEARSUM \
	VPXOR X8, X8, X8   \
	VPXOR X9, X9, X9   \
	VPXOR X10, X10, X10

// MASK sets K1 to the bytes that exist in a vector when n are left, 0 to 255: all 64 if n is more.
#define MASK(n) \
	MOVQ  $-1, AX   \
	BZHIQ n, AX, AX \
	KMOVQ AX, K1

// func crypt(k *kernel, s *state, dst, src *byte, n int, ad *byte, adLen int, encrypt, last bool)
TEXT ·crypt(SB), NOSPLIT, $0-58
	MOVQ k+0(FP), DI
	MOVQ s+8(FP), R8
	MOVQ dst+16(FP), R9
	MOVQ src+24(FP), SI
	MOVQ n+32(FP), CX
	MOVQ ad+40(FP), DX
	MOVQ adLen+48(FP), R10

	VBROADCASTI32X4 0(DI), RK0
	VBROADCASTI32X4 16(DI), RK1
	VBROADCASTI32X4 32(DI), RK2
	VBROADCASTI32X4 48(DI), RK3
	VBROADCASTI32X4 64(DI), RK4
	VBROADCASTI32X4 80(DI), RK5
	VBROADCASTI32X4 96(DI), RK6
	VBROADCASTI32X4 112(DI), RK7
	VBROADCASTI32X4 128(DI), RK8
	VBROADCASTI32X4 144(DI), RK9
	VBROADCASTI32X4 160(DI), RK10
	VBROADCASTI32X4 176(DI), RK11
	VBROADCASTI32X4 192(DI), RK12
	VBROADCASTI32X4 208(DI), RK13
	VBROADCASTI32X4 224(DI), RK14
	VBROADCASTI32X4 bswap<>(SB), BSWAP
	VBROADCASTI32X4 poly<>(SB), POLY
	VBROADCASTI32X4 four<>(SB), FOUR
	VMOVQ           state_counter(R8), CTRX
	VPINSRQ         $1, state_counter+8(R8), CTRX, CTRX
	VSHUFI32X4      $0, CTR, CTR, CTR
	VMOVDQU         state_hash(R8), HASHX

	// J0 is this message's counter block with the number 1.
	MOVL        $1, AX
	VPINSRD     $0, AX, CTRX, X0
	VPSHUFB     BSWAPX, X0, X0
	VPXORQ      X17, X0, X0
	VAESENC     X18, X0, X0
	VAESENC     X19, X0, X0
	VAESENC     X20, X0, X0
	VAESENC     X21, X0, X0
	VAESENC     X22, X0, X0
	VAESENC     X23, X0, X0
	VAESENC     X24, X0, X0
	VAESENC     X25, X0, X0
	VAESENC     X26, X0, X0
	VAESENC     X27, X0, X0
	VAESENC     X28, X0, X0
	VAESENC     X29, X0, X0
	VAESENC     X30, X0, X0
	VAESENCLAST X31, X0, X0
	VMOVDQU     X0, state_tag(R8)

	VPADDD zeroToThree<>(SB), CTR, CTR

	// Additional data, up to 192 bytes a reduction. The first of r blocks takes Hʳ.
ad:
	TESTQ   R10, R10
	JZ      adDone
	MOVQ    $192, BX
	CMPQ    R10, BX
	CMOVQLT R10, BX
	SUBQ    BX, R10
	LEAQ    15(BX), AX
	ANDQ    $-16, AX
	LEAQ    H1+16(DI), R11
	SUBQ    AX, R11
	CLEARSUM

ad64:
	MASK(BX)
	VMOVDQU8.Z (DX), K1, D0
	VPSHUFB    BSWAP, D0, D0
	VPXORQ     HASH, D0, D0
	VPXOR      HASHX, HASHX, HASHX
	MULADD((R11), D0, D1)
	ADDQ       $64, DX
	ADDQ       $64, R11
	SUBQ       $64, BX
	JG         ad64
	REDUCE1
	REDUCE2
	FOLD
	JMP        ad

adDone:
	CMPQ CX, $256
	JB   tail
	CMPB encrypt+56(FP), $0
	JE   open

	// Seal. D0 to D3 hold the ciphertext that is not hashed yet.
	COUNTERS4
	ROUND4(RK1)
	ROUND4(RK2)
	ROUND4(RK3)
	ROUND4(RK4)
	ROUND4(RK5)
	ROUND4(RK6)
	ROUND4(RK7)
	ROUND4(RK8)
	ROUND4(RK9)
	ROUND4(RK10)
	ROUND4(RK11)
	ROUND4(RK12)
	ROUND4(RK13)
	LAST4
	SWAP4
	ADDQ $256, SI
	ADDQ $256, R9
	SUBQ $256, CX

seal256:
	VPXORQ HASH, D0, D0
	CMPQ   CX, $256
	JB     sealDone
	COUNTERS4
	ROUNDSANDHASH
	LAST4
	SWAP4
	ADDQ   $256, SI
	ADDQ   $256, R9
	SUBQ   $256, CX
	JMP    seal256

sealDone:
	MUL(H16(DI), D0)
	MULADD(H16+64(DI), D1, HASH)
	MULADD(H16+128(DI), D2, HASH)
	MULADD(H16+192(DI), D3, HASH)
	REDUCE1
	REDUCE2
	FOLD
	JMP tail

open:
	VMOVDQU64 (SI), D0
	VMOVDQU64 64(SI), D1
	VMOVDQU64 128(SI), D2
	VMOVDQU64 192(SI), D3
	SWAP4
	VPXORQ    HASH, D0, D0
	COUNTERS4
	ROUNDSANDHASH
	LAST4
	ADDQ      $256, SI
	ADDQ      $256, R9
	SUBQ      $256, CX
	CMPQ      CX, $256
	JAE       open

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

tail64:
	COUNTERS(S0)
	MASK(CX)
	VMOVDQU8.Z  (SI), K1, D0
	VAESENC     RK1, S0, S0
	VAESENC     RK2, S0, S0
	VAESENC     RK3, S0, S0
	VAESENC     RK4, S0, S0
	VAESENC     RK5, S0, S0
	VAESENC     RK6, S0, S0
	VAESENC     RK7, S0, S0
	VAESENC     RK8, S0, S0
	VAESENC     RK9, S0, S0
	VAESENC     RK10, S0, S0
	VAESENC     RK11, S0, S0
	VAESENC     RK12, S0, S0
	VAESENC     RK13, S0, S0
	VPXORQ      RK14, D0, D1
	VAESENCLAST D1, S0, S0
	VMOVDQU8    S0, K1, (R9)
	CMPB        encrypt+56(FP), $0
	JE          tailHash
	VMOVDQU8.Z  S0, K1, D0           // without the key stream behind the message's end

tailHash:
	VPSHUFB BSWAP, D0, D0
	VPXORQ  HASH, D0, D0
	VPXOR   HASHX, HASHX, HASHX
	MULADD((R11), D0, D1)
	ADDQ    $64, SI
	ADDQ    $64, R9
	ADDQ    $64, R11
	SUBQ    $64, CX
	JG      tail64

lengths:
	VPXOR   state_bits(R8), HASHX, X4
	MULADD(H1(DI), D0, D1)
	REDUCE1
	REDUCE2
	FOLD
	VPSHUFB BSWAPX, HASHX, HASHX
	VPXOR   state_tag(R8), HASHX, HASHX
	VMOVDQU HASHX, state_tag(R8)
	VZEROUPPER
	RET

more:
	VMOVDQU HASHX, state_hash(R8)
	VMOVDQU CTRX, state_counter(R8)
	VZEROUPPER
	RET

// ------------------------------------------------------------------------------------------------------------ keys

// CASCADE adds to each word of key all words below it, and to all of them the word of X2 that the immediate names: a step of
// FIPS 197's KeyExpansion, four words at once.
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

// EVEN makes the next round key with rotation and constant, ODD the one after it without.
#define EVEN(constant, offset) \
	VAESKEYGENASSIST $constant, X1, X2 \
	CASCADE(X0, 0xff, offset)

#define ODD(offset) \
	VAESKEYGENASSIST $0, X0, X2 \
	CASCADE(X1, 0xaa, offset)

// func expand(k *kernel, key *[keySize]byte)
TEXT ·expand(SB), NOSPLIT, $0-16
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
	VPSHUFB     bswap<>(SB), X4, X4

	// Times x: a shift to the left by one, with the carry between the halves and, for the bit that falls out, the polynomial.
	VPSHUFD $0xd3, X4, X5
	VPSRAD  $31, X5, X5
	VPAND   polycarry<>(SB), X5, X5
	VPADDQ  X4, X4, X4
	VPXOR   X5, X4, X4

	// H¹ at the highest place and its powers downwards.
	VBROADCASTI32X4 poly<>(SB), POLY
	LEAQ            H1(DI), AX
	LEAQ            H17(DI), BX
	VMOVDQU         X4, (AX)
	VMOVDQA         X4, X10

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
