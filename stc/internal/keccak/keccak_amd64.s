//go:build !purego

#include "textflag.h"

// Keccak-f[1600] (FIPS 202 §3) of four states side by side, with AVX-512VL: a register of 32 bytes holds the same word of
// all four, and all 25 words stay in registers while blocks are absorbed. Vectors of 64 bytes and eight states are no faster
// on a processor that takes them in halves (Zen 4: 2.6 GB/s both), and want twice as many messages.
//
// A round is written in place, after "Keccak implementation overview" (Bertoni, Daemen, Peeters, Van Assche, Van Keer, §2.5):
// row y of the result needs one word of each column, and goes where these were, each word staying in its column. A column's
// words change places that way and are back after four rounds, which are the loop's body. Axk is place k of column x; before
// the first of the four rounds it holds word x+5k.
//
// VPTERNLOGQ $0x96 is a XOR of three; $0xd2 of a, b and c is a XOR (NOT b AND c).

#define A00 Y0
#define A10 Y1
#define A20 Y2
#define A30 Y3
#define A40 Y4
#define A01 Y5
#define A11 Y6
#define A21 Y7
#define A31 Y8
#define A41 Y9
#define A02 Y10
#define A12 Y11
#define A22 Y12
#define A32 Y13
#define A42 Y14
#define A03 Y15
#define A13 Y16
#define A23 Y17
#define A33 Y18
#define A43 Y19
#define A04 Y20
#define A14 Y21
#define A24 Y22
#define A34 Y23
#define A44 Y24

// C is a column's parity, D what θ adds to a column, T scratch. Each D takes the register of a C that is done, or a free one.
#define C0 Y25
#define C1 Y26
#define C2 Y27
#define C3 Y28
#define C4 Y29
#define D0 Y30
#define D1 C2
#define D2 C3
#define D3 Y31
#define D4 C4
#define T0 C0
#define T1 C1

#define PARITY(A, B, C, D, E, TO) \
	VMOVDQA64 A, TO; \
	VPTERNLOGQ $0x96, B, C, TO; \
	VPTERNLOGQ $0x96, D, E, TO

#define THETA \
	PARITY(A00, A01, A02, A03, A04, C0); \
	PARITY(A10, A11, A12, A13, A14, C1); \
	PARITY(A20, A21, A22, A23, A24, C2); \
	PARITY(A30, A31, A32, A33, A34, C3); \
	PARITY(A40, A41, A42, A43, A44, C4); \
	VPROLQ $1, C1, D0; \
	VPXORQ C4, D0, D0; \
	VPROLQ $1, C4, D3; \
	VPXORQ C2, D3, D3; \
	VPROLQ $1, C0, D4; \
	VPXORQ C3, D4, D4; \
	VPROLQ $1, C3, D2; \
	VPXORQ C1, D2, D2; \
	VPROLQ $1, C2, D1; \
	VPXORQ C0, D1, D1

#define ADD(P0, P1, P2, P3, P4) \
	VPXORQ D0, P0, P0; \
	VPXORQ D1, P1, P1; \
	VPXORQ D2, P2, P2; \
	VPXORQ D3, P3, P3; \
	VPXORQ D4, P4, P4

// χ of a row. T0 holds P0 already.
#define CHI(P0, P1, P2, P3, P4) \
	VMOVDQA64 P1, T1; \
	VPTERNLOGQ $0xd2, P2, P1, P0; \
	VPTERNLOGQ $0xd2, P3, P2, P1; \
	VPTERNLOGQ $0xd2, P4, P3, P2; \
	VPTERNLOGQ $0xd2, T0, P4, P3; \
	VPTERNLOGQ $0xd2, T1, T0, P4

// ROWy makes row y of the words that belong to it, given in the order of their columns: θ; ρ; π, by which the word of column
// x becomes that of column x+2y; χ.

#define ROW0(P0, P1, P2, P3, P4) \
	ADD(P0, P1, P2, P3, P4); \
	VMOVDQA64 P0, T0; \
	VPROLQ $44, P1, P1; \
	VPROLQ $43, P2, P2; \
	VPROLQ $21, P3, P3; \
	VPROLQ $14, P4, P4; \
	CHI(P0, P1, P2, P3, P4)

#define ROW1(P0, P1, P2, P3, P4) \
	ADD(P0, P1, P2, P3, P4); \
	VPROLQ $28, P3, T0; \
	VPROLQ $45, P1, P3; \
	VPROLQ $20, P4, P1; \
	VPROLQ $61, P2, P4; \
	VPROLQ $3, P0, P2; \
	VMOVDQA64 T0, P0; \
	CHI(P0, P1, P2, P3, P4)

#define ROW2(P0, P1, P2, P3, P4) \
	ADD(P0, P1, P2, P3, P4); \
	VPROLQ $1, P1, T0; \
	VPROLQ $6, P2, P1; \
	VPROLQ $25, P3, P2; \
	VPROLQ $8, P4, P3; \
	VPROLQ $18, P0, P4; \
	VMOVDQA64 T0, P0; \
	CHI(P0, P1, P2, P3, P4)

#define ROW3(P0, P1, P2, P3, P4) \
	ADD(P0, P1, P2, P3, P4); \
	VPROLQ $27, P4, T0; \
	VPROLQ $56, P3, P4; \
	VPROLQ $15, P2, P3; \
	VPROLQ $10, P1, P2; \
	VPROLQ $36, P0, P1; \
	VMOVDQA64 T0, P0; \
	CHI(P0, P1, P2, P3, P4)

#define ROW4(P0, P1, P2, P3, P4) \
	ADD(P0, P1, P2, P3, P4); \
	VPROLQ $62, P2, T0; \
	VPROLQ $39, P4, P2; \
	VPROLQ $2, P1, P4; \
	VPROLQ $55, P3, P1; \
	VPROLQ $41, P0, P3; \
	VMOVDQA64 T0, P0; \
	CHI(P0, P1, P2, P3, P4)

#define IOTA \
	VPXORQ.BCST (CX), A00, A00; \
	ADDQ $8, CX

// ABSORB adds two words of each block, at offset AT, to W0 and W1.
#define LOAD(AT) \
	VMOVDQU64 AT(R8), X25; \
	VINSERTI32X4 $1, AT(R10), Y25, Y25; \
	VMOVDQU64 AT(R9), X26; \
	VINSERTI32X4 $1, AT(R11), Y26, Y26

#define ABSORB(AT, W0, W1) \
	LOAD(AT); \
	VPUNPCKLQDQ Y26, Y25, Y27; \
	VPUNPCKHQDQ Y26, Y25, Y28; \
	VPXORQ Y27, W0, W0; \
	VPXORQ Y28, W1, W1

DATA roundConstants<>+0x00(SB)/8, $0x0000000000000001
DATA roundConstants<>+0x08(SB)/8, $0x0000000000008082
DATA roundConstants<>+0x10(SB)/8, $0x800000000000808a
DATA roundConstants<>+0x18(SB)/8, $0x8000000080008000
DATA roundConstants<>+0x20(SB)/8, $0x000000000000808b
DATA roundConstants<>+0x28(SB)/8, $0x0000000080000001
DATA roundConstants<>+0x30(SB)/8, $0x8000000080008081
DATA roundConstants<>+0x38(SB)/8, $0x8000000000008009
DATA roundConstants<>+0x40(SB)/8, $0x000000000000008a
DATA roundConstants<>+0x48(SB)/8, $0x0000000000000088
DATA roundConstants<>+0x50(SB)/8, $0x0000000080008009
DATA roundConstants<>+0x58(SB)/8, $0x000000008000000a
DATA roundConstants<>+0x60(SB)/8, $0x000000008000808b
DATA roundConstants<>+0x68(SB)/8, $0x800000000000008b
DATA roundConstants<>+0x70(SB)/8, $0x8000000000008089
DATA roundConstants<>+0x78(SB)/8, $0x8000000000008003
DATA roundConstants<>+0x80(SB)/8, $0x8000000000008002
DATA roundConstants<>+0x88(SB)/8, $0x8000000000000080
DATA roundConstants<>+0x90(SB)/8, $0x000000000000800a
DATA roundConstants<>+0x98(SB)/8, $0x800000008000000a
DATA roundConstants<>+0xa0(SB)/8, $0x8000000080008081
DATA roundConstants<>+0xa8(SB)/8, $0x8000000000008080
DATA roundConstants<>+0xb0(SB)/8, $0x0000000080000001
DATA roundConstants<>+0xb8(SB)/8, $0x8000000080008008
GLOBL roundConstants<>(SB), NOPTR|RODATA, $192

// func absorb(words *[100]uint64, in *[4]*byte, blocks int)
//
//	DX words, R8 to R11 the next block of each, BX blocks left, CX round constants, AX rounds left, by four
TEXT ·absorb(SB), NOSPLIT, $0-24
	MOVQ words+0(FP), DX
	MOVQ in+8(FP), AX
	MOVQ blocks+16(FP), BX
	MOVQ 0(AX), R8
	MOVQ 8(AX), R9
	MOVQ 16(AX), R10
	MOVQ 24(AX), R11
	VMOVDQU64 0(DX), A00
	VMOVDQU64 32(DX), A10
	VMOVDQU64 64(DX), A20
	VMOVDQU64 96(DX), A30
	VMOVDQU64 128(DX), A40
	VMOVDQU64 160(DX), A01
	VMOVDQU64 192(DX), A11
	VMOVDQU64 224(DX), A21
	VMOVDQU64 256(DX), A31
	VMOVDQU64 288(DX), A41
	VMOVDQU64 320(DX), A02
	VMOVDQU64 352(DX), A12
	VMOVDQU64 384(DX), A22
	VMOVDQU64 416(DX), A32
	VMOVDQU64 448(DX), A42
	VMOVDQU64 480(DX), A03
	VMOVDQU64 512(DX), A13
	VMOVDQU64 544(DX), A23
	VMOVDQU64 576(DX), A33
	VMOVDQU64 608(DX), A43
	VMOVDQU64 640(DX), A04
	VMOVDQU64 672(DX), A14
	VMOVDQU64 704(DX), A24
	VMOVDQU64 736(DX), A34
	VMOVDQU64 768(DX), A44

block:
	ABSORB(0, A00, A10)
	ABSORB(16, A20, A30)
	ABSORB(32, A40, A01)
	ABSORB(48, A11, A21)
	ABSORB(64, A31, A41)
	ABSORB(80, A02, A12)
	ABSORB(96, A22, A32)
	ABSORB(112, A42, A03)
	LOAD(120) // word 15 once more, so that nothing behind the block is read
	VPUNPCKHQDQ Y26, Y25, Y28
	VPXORQ Y28, A13, A13
	ADDQ $136, R8
	ADDQ $136, R9
	ADDQ $136, R10
	ADDQ $136, R11
	LEAQ roundConstants<>(SB), CX
	MOVL $6, AX

rounds:
	THETA
	ROW0(A00, A11, A22, A33, A44)
	IOTA
	ROW1(A02, A13, A24, A30, A41)
	ROW2(A04, A10, A21, A32, A43)
	ROW3(A01, A12, A23, A34, A40)
	ROW4(A03, A14, A20, A31, A42)
	THETA
	ROW0(A00, A13, A21, A34, A42)
	IOTA
	ROW1(A04, A12, A20, A33, A41)
	ROW2(A03, A11, A24, A32, A40)
	ROW3(A02, A10, A23, A31, A44)
	ROW4(A01, A14, A22, A30, A43)
	THETA
	ROW0(A00, A12, A24, A31, A43)
	IOTA
	ROW1(A03, A10, A22, A34, A41)
	ROW2(A01, A13, A20, A32, A44)
	ROW3(A04, A11, A23, A30, A42)
	ROW4(A02, A14, A21, A33, A40)
	THETA
	ROW0(A00, A10, A20, A30, A40)
	IOTA
	ROW1(A01, A11, A21, A31, A41)
	ROW2(A02, A12, A22, A32, A42)
	ROW3(A03, A13, A23, A33, A43)
	ROW4(A04, A14, A24, A34, A44)
	DECL AX
	JNZ rounds
	DECQ BX
	JNZ block

	VMOVDQU64 A00, 0(DX)
	VMOVDQU64 A10, 32(DX)
	VMOVDQU64 A20, 64(DX)
	VMOVDQU64 A30, 96(DX)
	VMOVDQU64 A40, 128(DX)
	VMOVDQU64 A01, 160(DX)
	VMOVDQU64 A11, 192(DX)
	VMOVDQU64 A21, 224(DX)
	VMOVDQU64 A31, 256(DX)
	VMOVDQU64 A41, 288(DX)
	VMOVDQU64 A02, 320(DX)
	VMOVDQU64 A12, 352(DX)
	VMOVDQU64 A22, 384(DX)
	VMOVDQU64 A32, 416(DX)
	VMOVDQU64 A42, 448(DX)
	VMOVDQU64 A03, 480(DX)
	VMOVDQU64 A13, 512(DX)
	VMOVDQU64 A23, 544(DX)
	VMOVDQU64 A33, 576(DX)
	VMOVDQU64 A43, 608(DX)
	VMOVDQU64 A04, 640(DX)
	VMOVDQU64 A14, 672(DX)
	VMOVDQU64 A24, 704(DX)
	VMOVDQU64 A34, 736(DX)
	VMOVDQU64 A44, 768(DX)
	VZEROUPPER
	RET
