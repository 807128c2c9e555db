package dev.sluice.kernel;

import java.io.ByteArrayOutputStream;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;

/// Writes the machine code of an x86-64 with AVX-512, for exactly the instructions that the kernels
/// need. Names and operands are those of Intel's manual, the destination first.
///
/// General registers and vector registers are numbers. Memory is a base register and a distance in
/// bytes, which always takes four bytes: so no encoding has a special case for a short one.
final class Assembler {
  static final int RAX = 0;
  static final int RCX = 1;
  static final int RDX = 2;
  static final int RBX = 3;
  static final int RSP = 4;
  static final int RBP = 5;
  static final int RSI = 6;
  static final int RDI = 7;
  static final int R8 = 8;
  static final int R9 = 9;
  static final int R10 = 10;
  static final int R11 = 11;
  static final int R12 = 12;
  static final int R13 = 13;
  static final int R14 = 14;
  static final int R15 = 15;

  /// What an EVEX prefix says of an instruction, as four bytes from the lowest: the map of its
  /// opcode (1 for `0F`, 2 for `0F 38`, 3 for `0F 3A`), then the W bit and the other prefix (0 for
  /// none, 1 for `66`, 2 for `F3`, 3 for `F2`), the opcode, and the vectors' length (0 for 16
  /// bytes, 2 for 64).
  private static int evex(int map, int prefix, int wide, int opcode, int length) {
    return map | (wide << 7 | prefix) << 8 | opcode << 16 | length << 24;
  }

  /// The vector instructions, on 64 bytes unless their name says otherwise; those that end with
  /// `SD` or `SS` are on the lowest number.
  enum Vector {
    VADDPS(1, 0, 0, 0x58),
    VADDSD(1, 3, 1, 0x58, 0),
    /// The second operand where the mask's bit is zero, the third where it is one.
    VBLENDMPS(2, 1, 0, 0x65),
    VBROADCASTI32X4(2, 1, 0, 0x5A),
    VBROADCASTI64X4(2, 1, 1, 0x5B),
    VBROADCASTSS(2, 1, 0, 0x18),
    VCVTDQ2PS(1, 0, 0, 0x5B),
    /// From the lower half of a register, or 32 bytes.
    VCVTPH2PS(2, 1, 0, 0x13),
    VCVTPS2DQ(1, 1, 0, 0x5B),
    VCVTSD2SS(1, 3, 1, 0x5A, 0),
    VCVTSS2SD(1, 2, 0, 0x5A, 0),
    VDIVPS(1, 0, 0, 0x5E),
    VDIVSD(1, 3, 1, 0x5E, 0),
    /// The destination times the second operand, plus the third.
    VFMADD213PS(2, 1, 0, 0xA8),
    VFMADD231PS(2, 1, 0, 0xB8),
    VFNMADD231PS(2, 1, 0, 0xBC),
    VINSERTI32X4(3, 1, 0, 0x38),
    VINSERTI64X4(3, 1, 1, 0x3A),
    VMAXPS(1, 0, 0, 0x5F),
    VMOVUPS(1, 0, 0, 0x10),
    VMULPS(1, 0, 0, 0x59),
    VPADDD(1, 1, 0, 0xFE),
    VPANDD(1, 1, 0, 0xDB),
    VPBROADCASTD(2, 1, 0, 0x58),
    VPBROADCASTW(2, 1, 0, 0x79),
    /// Adds the products of unsigned bytes of the second operand and signed ones of the third, four
    /// to a sum.
    VPDPBUSD(2, 1, 0, 0x50),
    VPERMILPS(3, 1, 0, 0x04),
    /// The second operand says which element of the third goes where.
    VPERMPS(2, 1, 0, 0x16),
    VPERMW(2, 1, 1, 0x8D),
    VPMAXUD(2, 1, 0, 0x3F),
    VPMINUB(1, 1, 0, 0xDA),
    VPMOVSXBD(2, 1, 0, 0x21),
    VPMOVSXBW(2, 1, 0, 0x20),
    VPMOVZXBD(2, 1, 0, 0x31),
    VPMOVZXWD(2, 1, 0, 0x33),
    VPORD(1, 1, 0, 0xEB),
    VPROLVD(2, 1, 0, 0x15),
    VPSHUFB(2, 1, 0, 0x00),
    VPSLLVD(2, 1, 0, 0x47),
    VPSRLVD(2, 1, 0, 0x45),
    VPSUBD(1, 1, 0, 0xFA),
    VPTERNLOGD(3, 1, 0, 0x25),
    VPXORD(1, 1, 0, 0xEF),
    VRNDSCALEPS(3, 1, 0, 0x08),
    /// The second operand times two to the power of the third.
    VSCALEFPS(2, 1, 0, 0x2C),
    VSHUFI64X2(3, 1, 1, 0x43),
    VSQRTSD(1, 3, 1, 0x51, 0),
    VSUBPS(1, 0, 0, 0x5C),
    VUNPCKHPD(1, 1, 1, 0x15),
    VUNPCKHPS(1, 0, 0, 0x15),
    VUNPCKLPD(1, 1, 1, 0x14),
    VUNPCKLPS(1, 0, 0, 0x14);

    private final int evex;

    Vector(int map, int prefix, int wide, int opcode) {
      this(map, prefix, wide, opcode, 2);
    }

    Vector(int map, int prefix, int wide, int opcode, int length) {
      this.evex = evex(map, prefix, wide, opcode, length);
    }
  }

  /// Those that write memory.
  enum Store {
    VMOVUPS(1, 0, 0, 0x11, 2),
    /// The lowest 16 bytes.
    VMOVUPS_16(1, 0, 0, 0x11, 0),
    /// The lowest number.
    VMOVSS(1, 2, 0, 0x11, 0),
    /// The lowest byte of each number of four bytes: 16 bytes.
    VPMOVDB(2, 2, 0, 0x31, 2);

    private final int evex;

    Store(int map, int prefix, int wide, int opcode, int length) {
      this.evex = evex(map, prefix, wide, opcode, length);
    }
  }

  /// What is asked of the first of two numbers.
  enum Comparison {
    /// Or one of them is not a number.
    NOT_LESS(5),
    AT_LEAST(13);

    private final int predicate;

    Comparison(int predicate) {
      this.predicate = predicate;
    }
  }

  /// Shifts of each number of four bytes by the same distance.
  enum Shift {
    VPSRLD(2),
    VPSRAD(4),
    VPSLLD(6);

    private final int extension;

    Shift(int extension) {
      this.extension = extension;
    }
  }

  private static final int SHIFT = evex(1, 1, 0, 0x72, 2);
  private static final int COMPARISON = evex(1, 0, 0, 0xC2, 2);

  /// In the prefix, beside a mask's number: where its bit is zero, so is the result.
  private static final int ZEROING = 1 << 7;

  private static final int BROADCAST = 1 << 4;

  private byte[] bytes = new byte[1 << 12];
  private int size;
  private final List<byte[]> constants = new ArrayList<>();
  private int poolDistance = -1;

  private void put(int... values) {
    if (size + values.length > bytes.length) {
      bytes = Arrays.copyOf(bytes, 2 * bytes.length);
    }
    for (int value : values) {
      bytes[size++] = (byte) value;
    }
  }

  private void put32(int value) {
    put(value, value >> 8, value >> 16, value >> 24);
  }

  /// Bits 3 and 4 of a register's number, as the prefixes have them: the other way round.
  private static int not(int register, int bit) {
    return ~register >> bit & 1;
  }

  private void prefixed(int evex, int reg, int first, int extended, int base) {
    prefixed(evex, reg, first, extended, base, 0);
  }

  private void prefixed(int evex, int reg, int first, int extended, int base, int more) {
    put(
        0x62,
        not(reg, 3) << 7 | extended << 6 | not(base, 3) << 5 | not(reg, 4) << 4 | (evex & 0xFF),
        (evex >> 8 & 0xFF) | (~first & 15) << 3 | 1 << 2,
        evex >> 24 << 5 | not(first, 4) << 3 | more,
        evex >> 16);
  }

  private void registers(int evex, int reg, int first, int last) {
    registers(evex, reg, first, last, 0);
  }

  private void registers(int evex, int reg, int first, int last, int more) {
    prefixed(evex, reg, first, not(last, 4), last, more);
    put(0xC0 | (reg & 7) << 3 | (last & 7));
  }

  private void memory(int evex, int reg, int first, int base, int distance) {
    prefixed(evex, reg, first, 1, base);
    address(reg, base, distance);
  }

  private void address(int reg, int base, int distance) {
    put(0x80 | (reg & 7) << 3 | (base & 7));
    if ((base & 7) == RSP) {
      put(0x24);
    }
    put32(distance);
  }

  /// An instruction of two operands, or one that takes no other than its destination.
  void op(Vector op, int to, int from) {
    registers(op.evex, to, 0, from);
  }

  void op(Vector op, int to, int first, int second) {
    registers(op.evex, to, first, second);
  }

  void op(Vector op, int to, int first, int second, int immediate) {
    registers(op.evex, to, first, second);
    put(immediate);
  }

  void load(Vector op, int to, int base, int distance) {
    memory(op.evex, to, 0, base, distance);
  }

  void load(Vector op, int to, int first, int base, int distance) {
    memory(op.evex, to, first, base, distance);
  }

  void load(Vector op, int to, int first, int base, int distance, int immediate) {
    memory(op.evex, to, first, base, distance);
    put(immediate);
  }

  /// With a number of four bytes in each place of the last operand.
  void loadOne(Vector op, int to, int first, int base, int distance) {
    prefixed(op.evex, to, first, 1, base, BROADCAST);
    address(to, base, distance);
  }

  void store(Store op, int base, int distance, int from) {
    memory(op.evex, from, 0, base, distance);
  }

  /// With zero in the places where the mask's bit is zero.
  void masked(Vector op, int mask, int to, int first, int second) {
    registers(op.evex, to, first, second, ZEROING | mask);
  }

  /// With zero in the places where the mask's bit is zero, whose memory is not read.
  void loadMasked(Vector op, int mask, int to, int base, int distance) {
    prefixed(op.evex, to, 0, 1, base, ZEROING | mask);
    address(to, base, distance);
  }

  /// Writes the places alone where the mask's bit is one.
  void storeMasked(Store op, int mask, int base, int distance, int from) {
    prefixed(op.evex, from, 0, 1, base, mask);
    address(from, base, distance);
  }

  void blend(int mask, int to, int zeros, int ones) {
    registers(Vector.VBLENDMPS.evex, to, zeros, ones, mask);
  }

  /// `VCMPPS`: a mask of ones where it is so.
  void compare(Comparison op, int mask, int first, int second) {
    registers(COMPARISON, mask, first, second);
    put(op.predicate);
  }

  /// `KMOVW`, of one of the first eight registers.
  void mask(int to, int from) {
    put(0xC5, 0xF8, 0x92, 0xC0 | to << 3 | from);
  }

  void shift(Shift op, int to, int from, int distance) {
    registers(SHIFT, op.extension, to, from);
    put(distance);
  }

  /// Zero, at no cost.
  void zero(int to) {
    op(Vector.VPXORD, to, to, to);
  }

  private void rex(int reg, int index, int base, boolean wide) {
    put(0x40 | (wide ? 8 : 0) | reg >> 3 << 2 | index >> 3 << 1 | base >> 3);
  }

  void mov(int to, int from) {
    rex(from, 0, to, true);
    put(0x89, 0xC0 | (from & 7) << 3 | (to & 7));
  }

  void mov(int to, int base, int distance) {
    rex(to, 0, base, true);
    put(0x8B);
    address(to, base, distance);
  }

  /// Stores the lower four bytes.
  void store32(int base, int distance, int from) {
    rex(from, 0, base, false);
    put(0x89);
    address(from, base, distance);
  }

  /// Loads two bytes, and zeros above them.
  void load16(int to, int base, int distance) {
    rex(to, 0, base, false);
    put(0x0F, 0xB7);
    address(to, base, distance);
  }

  /// Stores the lower two bytes.
  void store16(int base, int distance, int from) {
    put(0x66);
    rex(from, 0, base, false);
    put(0x89);
    address(from, base, distance);
  }

  void lea(int to, int base, int distance) {
    rex(to, 0, base, true);
    put(0x8D);
    address(to, base, distance);
  }

  void add(int to, int from) {
    rex(from, 0, to, true);
    put(0x01, 0xC0 | (from & 7) << 3 | (to & 7));
  }

  /// `ADD` of a number.
  void increase(int to, int value) {
    rex(0, 0, to, true);
    put(0x81, 0xC0 | (to & 7));
    put32(value);
  }

  /// `MOV` of a number.
  void set(int to, int value) {
    rex(0, 0, to, true);
    put(0xC7, 0xC0 | (to & 7));
    put32(value);
  }

  /// Makes an address a multiple of a power of two, by going down.
  void alignDown(int to, int multiple) {
    rex(0, 0, to, true);
    put(0x81, 0xE0 | (to & 7));
    put32(-multiple);
  }

  void test(int register) {
    rex(register, 0, register, true);
    put(0x85, 0xC0 | (register & 7) << 3 | (register & 7));
  }

  void push(int register) {
    rex(0, 0, register, false);
    put(0x50 | (register & 7));
  }

  void pop(int register) {
    rex(0, 0, register, false);
    put(0x58 | (register & 7));
  }

  /// Asks for a line of memory ahead of its use, into the innermost cache; an address where nothing
  /// is does no harm.
  void prefetchT0(int base, int index, int distance) {
    prefetch(1, base, index, distance);
  }

  void prefetchT0(int base, int distance) {
    rex(0, 0, base, false);
    put(0x0F, 0x18);
    address(1, base, distance);
  }

  void prefetchT2(int base, int distance) {
    rex(0, 0, base, false);
    put(0x0F, 0x18);
    address(3, base, distance);
  }

  /// The same, into the next cache but one.
  void prefetchT2(int base, int index, int distance) {
    prefetch(3, base, index, distance);
  }

  private void prefetch(int hint, int base, int index, int distance) {
    rex(0, index, base, false);
    put(0x0F, 0x18, 0x80 | hint << 3 | 4, (index & 7) << 3 | (base & 7));
    put32(distance);
  }

  /// Copies RCX bytes from RSI to RDI, and moves all three.
  void repMovsb() {
    put(0xF3, 0xA4);
  }

  void cpuid() {
    put(0x0F, 0xA2);
  }

  void xgetbv() {
    put(0x0F, 0x01, 0xD0);
  }

  /// The prefix VEX of an instruction on tiles, and its opcode: another prefix as [#evex] numbers
  /// them, and a register beside those of the last byte.
  private void tile(int prefix, int first, int base, int opcode) {
    put(0xC4, 0xC2 | not(base, 3) << 5, (~first & 15) << 3 | prefix, opcode);
  }

  /// `LDTILECFG`, from 64 bytes.
  void loadTileShapes(int base, int distance) {
    tile(0, 0, base, 0x49);
    address(0, base, distance);
  }

  /// `TILELOADD`: rows that begin as many bytes apart as the index says.
  void loadTile(int to, int base, int index, int distance) {
    tileMemory(3, to, base, index, distance);
  }

  /// `TILESTORED`.
  void storeTile(int base, int index, int distance, int from) {
    tileMemory(2, from, base, index, distance);
  }

  private void tileMemory(int prefix, int tile, int base, int index, int distance) {
    put(0xC4, 0x82 | not(index, 3) << 6 | not(base, 3) << 5, 0x78 | prefix, 0x4B);
    put(0x80 | tile << 3 | 4, (index & 7) << 3 | (base & 7));
    put32(distance);
  }

  /// `TILEZERO`.
  void zeroTile(int to) {
    tile(3, 0, 0, 0x49);
    put(0xC0 | to << 3);
  }

  /// `TDPBSUD`: adds the products of signed bytes of a row of the second tile and unsigned ones of
  /// the third, whose rows have four of each column.
  void multiplyTiles(int to, int signed, int unsigned) {
    tile(2, unsigned, 0, 0x5E);
    put(0xC0 | to << 3 | signed);
  }

  /// `TILERELEASE`.
  void releaseTiles() {
    tile(0, 0, 0, 0x49);
    put(0xC0);
  }

  void vzeroupper() {
    put(0xC5, 0xF8, 0x77);
  }

  void ret() {
    put(0xC3);
  }

  /// Where the next instruction will be.
  int here() {
    return size;
  }

  /// Goes to a place before, if the last result was not zero.
  void jumpBackIfNotZero(int place) {
    put(0x0F, 0x85);
    put32(place - size - 4);
  }

  /// Goes to a place that [#arrive] names, if the last result was zero.
  int jumpIfZero() {
    put(0x0F, 0x84);
    put32(0);
    return size;
  }

  void arrive(int jump) {
    patch(jump - 4, size - jump);
  }

  private void patch(int at, int value) {
    ByteBuffer.wrap(bytes).order(ByteOrder.LITTLE_ENDIAN).putInt(at, value);
  }

  /// Makes a register point to the constants, which follow the code.
  void pointToConstants(int register) {
    rex(register, 0, 0, true);
    put(0x8D, (register & 7) << 3 | 5);
    put32(0);
    poolDistance = size;
  }

  /// The distance of 64 bytes from where [#pointToConstants] points to.
  int constant(byte[] value) {
    for (int i = 0; i < constants.size(); i++) {
      if (Arrays.equals(constants.get(i), value)) {
        return 64 * i;
      }
    }
    constants.add(value);
    return 64 * (constants.size() - 1);
  }

  /// The code, then the constants at a multiple of 64 bytes.
  ///
  /// @param least so many constants at least, of which those that are not there are zero
  byte[] assemble(int least) {
    while (constants.size() < least) {
      constants.add(new byte[64]);
    }
    int pool = (size + 63) / 64 * 64;
    if (poolDistance >= 0) {
      patch(poolDistance - 4, pool - poolDistance);
    }
    var out = new ByteArrayOutputStream();
    out.write(bytes, 0, size);
    out.write(new byte[pool - size], 0, pool - size);
    constants.forEach(out::writeBytes);
    return out.toByteArray();
  }
}
