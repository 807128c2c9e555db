package dev.sluice.kernel;

import static dev.sluice.kernel.Assembler.R10;
import static dev.sluice.kernel.Assembler.R11;
import static dev.sluice.kernel.Assembler.R12;
import static dev.sluice.kernel.Assembler.R13;
import static dev.sluice.kernel.Assembler.R15;
import static dev.sluice.kernel.Assembler.R8;
import static dev.sluice.kernel.Assembler.R9;
import static dev.sluice.kernel.Assembler.RAX;
import static dev.sluice.kernel.Assembler.RBP;
import static dev.sluice.kernel.Assembler.RBX;
import static dev.sluice.kernel.Assembler.RDI;
import static dev.sluice.kernel.Assembler.RSI;
import static dev.sluice.kernel.Assembler.RSP;
import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;

import dev.sluice.kernel.Assembler.Comparison;
import dev.sluice.kernel.Assembler.Shift;
import dev.sluice.kernel.Assembler.Store;
import dev.sluice.kernel.Assembler.Vector;
import java.util.Arrays;
import java.util.HexFormat;
import java.util.function.Consumer;
import org.junit.jupiter.api.Test;

class AssemblerTest {
  /// A distance that no encoding shortens.
  private static final int FAR = 0x12345;

  private static byte[] code(Consumer<Assembler> instructions) {
    var assembler = new Assembler();
    instructions.accept(assembler);
    return assembler.assemble(0);
  }

  private static void same(String expected, Consumer<Assembler> instruction) {
    byte[] bytes = HexFormat.of().parseHex(expected);
    byte[] padded = Arrays.copyOf(bytes, 64); // as code is before its constants
    assertArrayEquals(padded, code(instruction), expected);
  }

  /// The bytes are those of the GNU assembler 2.40. Each bit of a register's number is set in one
  /// of them at least, at each place; R12, R13 and RSP as bases are written in their own way.
  @Test
  void instructionsAreEncodedAsByTheGnuAssembler() {
    same("6281344858ce", a -> a.op(Vector.VADDPS, 17, 9, 30));
    same("62d15c40589c2445230100", a -> a.load(Vector.VADDPS, 3, 20, R12, FAR));
    same("62e1b708588c2445230100", a -> a.load(Vector.VADDSD, 17, 9, RSP, FAR));
    same("62422d4565e3", a -> a.blend(5, 28, 26, 11));
    same("62627d485a9045230100", a -> a.load(Vector.VBROADCASTI32X4, 26, RAX, FAR));
    same("6262fd485babbbdcfeff", a -> a.load(Vector.VBROADCASTI64X4, 29, RBX, -FAR));
    same("62417c485bc0", a -> a.op(Vector.VCVTDQ2PS, 24, 8));
    same("62327d4813e5", a -> a.op(Vector.VCVTPH2PS, 12, 21));
    same("62e27d48138345230100", a -> a.load(Vector.VCVTPH2PS, 16, RBX, FAR));
    same("62917d485bcf", a -> a.op(Vector.VCVTPS2DQ, 1, 31));
    same("6281df005ae3", a -> a.op(Vector.VCVTSD2SS, 20, 20, 27));
    same("62f12e005aec", a -> a.op(Vector.VCVTSS2SD, 5, 26, 4));
    same("62f12c405eed", a -> a.op(Vector.VDIVPS, 5, 26, 5));
    same("62419f005eaa45230100", a -> a.load(Vector.VDIVSD, 29, 28, R10, FAR));
    same("62a19f085ed5", a -> a.op(Vector.VDIVSD, 18, 12, 21));
    same("62727d40b8bd45230100", a -> a.load(Vector.VFMADD231PS, 15, 16, RBP, FAR));
    same("62b23d40b8fc", a -> a.op(Vector.VFMADD231PS, 7, 24, 20));
    same("62f24540bc8545230100", a -> a.load(Vector.VFNMADD231PS, 0, 23, RBP, FAR));
    same("62e36d4038904523010003", a -> a.load(Vector.VINSERTI32X4, 18, 18, RAX, FAR, 3));
    same("62835d4038e501", a -> a.op(Vector.VINSERTI32X4, 20, 20, 29, 1));
    same("62e3f5403a8b4523010001", a -> a.load(Vector.VINSERTI64X4, 17, 17, RBX, FAR, 1));
    same("62f12c405fec", a -> a.op(Vector.VMAXPS, 5, 26, 4));
    same("62c17c4810b245230100", a -> a.load(Vector.VMOVUPS, 22, R10, FAR));
    same("62c17c4810f1", a -> a.op(Vector.VMOVUPS, 22, 9));
    same("62c17ccf10942445230100", a -> a.loadMasked(Vector.VMOVUPS, 7, 18, R12, FAR));
    same("62813cca59d9", a -> a.masked(Vector.VMULPS, 2, 19, 8, 25));
    same("62613440598d45230100", a -> a.load(Vector.VMULPS, 25, 25, RBP, FAR));
    same("62413d40fe8545230100", a -> a.load(Vector.VPADDD, 24, 24, R13, FAR));
    same("62612540db9c2445230100", a -> a.load(Vector.VPANDD, 27, 27, RSP, FAR));
    same("62627d4879ab45230100", a -> a.load(Vector.VPBROADCASTW, 29, RBX, FAR));
    same("62627540508545230100", a -> a.load(Vector.VPDPBUSD, 24, 17, RBP, FAR));
    same("6202654050ca", a -> a.op(Vector.VPDPBUSD, 25, 19, 26));
    same("62437d4804d74e", a -> a.op(Vector.VPERMILPS, 26, 0, 15, 0x4E));
    same("62825d4016e3", a -> a.op(Vector.VPERMPS, 20, 20, 27));
    same("62e2fd408d8045230100", a -> a.load(Vector.VPERMW, 16, 16, RAX, FAR));
    same("62925d483fe2", a -> a.op(Vector.VPMAXUD, 4, 4, 26));
    same("62012d40dad7", a -> a.op(Vector.VPMINUB, 26, 26, 31));
    same("62627d4831a345230100", a -> a.load(Vector.VPMOVZXBD, 28, RBX, FAR));
    same("62627d4821a345230100", a -> a.load(Vector.VPMOVSXBD, 28, RBX, FAR));
    same("62627d4820a345230100", a -> a.load(Vector.VPMOVSXBW, 28, RBX, FAR));
    same("62e27d48338845230100", a -> a.load(Vector.VPMOVZXWD, 17, RAX, FAR));
    same("62016540ebca", a -> a.op(Vector.VPORD, 25, 19, 26));
    same("6242154015aa45230100", a -> a.load(Vector.VPROLVD, 29, 29, R10, FAR));
    same("62421540009a45230100", a -> a.load(Vector.VPSHUFB, 27, 29, R10, FAR));
    same("6242154047aa45230100", a -> a.load(Vector.VPSLLVD, 29, 29, R10, FAR));
    same("62421d4045aa45230100", a -> a.load(Vector.VPSRLVD, 29, 28, R10, FAR));
    same("62b17548fac0", a -> a.op(Vector.VPSUBD, 0, 1, 16));
    same("62432d4025a245230100f8", a -> a.load(Vector.VPTERNLOGD, 28, 26, R10, FAR, 0xF8));
    same("62013d40efc0", a -> a.zero(24));
    same("62a215402ce4", a -> a.op(Vector.VSCALEFPS, 20, 29, 20));
    same("62e3f540438b45230100dd", a -> a.load(Vector.VSHUFI64X2, 17, 17, RBX, FAR, 0xDD));
    same("62c27d48188b45230100", a -> a.load(Vector.VBROADCASTSS, 17, R11, FAR));
    same("62e27d4818d8", a -> a.op(Vector.VBROADCASTSS, 19, 0));
    same("62826548a8d1", a -> a.op(Vector.VFMADD213PS, 18, 3, 25));
    same("62a37d4808ce08", a -> a.op(Vector.VRNDSCALEPS, 17, 0, 22, 8));
    same("6201f70051c6", a -> a.op(Vector.VSQRTSD, 24, 17, 30));
    same("62f17c485cc1", a -> a.op(Vector.VSUBPS, 0, 0, 1));
    same("62c19d4815d5", a -> a.op(Vector.VUNPCKHPD, 18, 12, 13));
    same("62c10c4015d7", a -> a.op(Vector.VUNPCKHPS, 18, 30, 15));
    same("62e1cd4814cf", a -> a.op(Vector.VUNPCKLPD, 17, 6, 7));
    same("62c13c4814c9", a -> a.op(Vector.VUNPCKLPS, 17, 8, 9));
    same("62717c4811842445230100", a -> a.store(Store.VMOVUPS, RSP, FAR, 8));
    same("62617c4c11a845230100", a -> a.storeMasked(Store.VMOVUPS, 4, RAX, FAR, 29));
    same("62d17c0811ab45230100", a -> a.store(Store.VMOVUPS_16, R11, FAR, 5));
    same("62717e0811a845230100", a -> a.store(Store.VMOVSS, RAX, FAR, 13));
    same("62c27e48318b45230100", a -> a.store(Store.VPMOVDB, R11, FAR, 17));
    same("62917440c2de0d", a -> a.compare(Comparison.AT_LEAST, 3, 17, 30));
    same("62b13448c2f405", a -> a.compare(Comparison.NOT_LESS, 6, 9, 20));
    same("c5f892d8", a -> a.mask(3, RAX));
    same("c5f892f7", a -> a.mask(6, RDI));
    same("62912d4072d30a", a -> a.shift(Shift.VPSRLD, 26, 27, 10));
    same("62d13d4072f008", a -> a.shift(Shift.VPSLLD, 24, 8, 8));
    same("62d1354072e118", a -> a.shift(Shift.VPSRAD, 25, 9, 24));
    same("4889f8", a -> a.mov(RAX, RDI));
    same("4d89cc", a -> a.mov(R12, R9));
    same("4c8bac2445230100", a -> a.mov(R13, RSP, FAR));
    same("41899845230100", a -> a.store32(R8, FAR, RBX));
    same("488dbc2445230100", a -> a.lea(RDI, RSP, FAR));
    same("4c01c3", a -> a.add(RBX, R8));
    same("4981c4bbdcfeff", a -> a.increase(R12, -FAR));
    same("49c7c745230100", a -> a.set(R15, FAR));
    same("4881e500f0ffff", a -> a.alignDown(RBP, 4096));
    same("4d85ed", a -> a.test(R13));
    same("4157", a -> a.push(R15));
    same("415c", a -> a.pop(R12));
    same("400f188e45230100", a -> a.prefetchT0(RSI, FAR));
    same("410f188a45230100", a -> a.prefetchT0(R10, FAR));
    same("420f188c1b45230100", a -> a.prefetchT0(RBX, R11, FAR));
    same("410f189c0445230100", a -> a.prefetchT2(R12, RAX, FAR));
    same("f3a4", a -> a.repMovsb());
    same("0fa2", a -> a.cpuid());
    same("0f01d0", a -> a.xgetbv());
    same("c5f877", a -> a.vzeroupper());
    same("c3", a -> a.ret());
  }

  @Test
  void jumpsAndConstantsAreFound() {
    byte[] twelve = new byte[64];
    byte[] other = new byte[64];
    Arrays.fill(twelve, (byte) 12);
    byte[] code =
        code(
            a -> {
              assertEquals(0, a.constant(twelve));
              assertEquals(64, a.constant(other));
              assertEquals(0, a.constant(twelve.clone()));
              int again = a.here();
              int end = a.jumpIfZero();
              a.jumpBackIfNotZero(again);
              a.arrive(end);
              a.pointToConstants(R10);
            });
    assertEquals(3 * 64, code.length);
    assertArrayEquals(
        HexFormat.of().parseHex("0f8406000000" + "0f85f4ffffff" + "4c8d152d000000"),
        Arrays.copyOf(code, 19));
    assertArrayEquals(twelve, Arrays.copyOfRange(code, 64, 128));
  }

  @Test
  void codeMayBeLong() {
    byte[] code =
        code(
            a -> {
              for (int i = 0; i < 10_000; i++) {
                a.increase(RAX, i);
              }
            });
    assertEquals(70_016, code.length);
    assertEquals((byte) (9_999 >> 8), code[9_999 * 7 + 4]);
  }
}
