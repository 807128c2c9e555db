package dev.sluice;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.sluice.tensor.Tensor;
import java.io.IOException;
import java.lang.classfile.ClassFile;
import java.lang.classfile.constantpool.MemberRefEntry;
import java.lang.classfile.constantpool.PoolEntry;
import java.lang.classfile.constantpool.StringEntry;
import java.lang.classfile.constantpool.Utf8Entry;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import java.util.function.Predicate;
import java.util.regex.Pattern;
import org.junit.jupiter.api.Test;

/// Who may use what, read from the class files.
class ArchitectureTest {
  /// The packages below `dev.sluice`, lowest first; a package uses only those before it. All use
  /// the root.
  private static final List<String> ORDER =
      List.of(
          "files",
          "settings",
          "template",
          "schema",
          "statistics",
          "provenance",
          "kernel",
          "gguf",
          "tensor",
          "cuda",
          "operations",
          "probe",
          "gate",
          "state",
          "attention",
          "deltanet",
          "decoder",
          "tokenizer",
          "corpus",
          "checkpoint",
          "distributed",
          "optimizer",
          "generation",
          "chat",
          "serving",
          "openai",
          "evaluation",
          "ruler",
          "sink",
          "training",
          "report",
          "study",
          "retrofit",
          "pages",
          "watch",
          "cli");

  /// What only some packages may use: the start of a class's internal name, or CLASS.MEMBER.
  private static final Map<String, Set<String>> RESERVED =
      Map.of(
          "org/bytedeco/", Set.of("tensor"),
          "jdk/incubator/vector/", Set.of("kernel"),
          // All others ask for an operation, which other devices have too.
          "dev/sluice/kernel/Kernels.FASTEST", Set.of("kernel", "tensor", "operations"),
          "java/lang/System.out", Set.of("cli"),
          "java/lang/System.err", Set.of("cli"),
          "java/lang/System.exit", Set.of("cli"),
          "java/lang/System.getenv", Set.of("cli"),
          // The tokenizer's process runs on the same Java, whose place is read from there; machine
          // code is of one processor, which stands there too.
          "java/lang/System.getProperty", Set.of("cli", "provenance", "tokenizer", "kernel"),
          // It chooses which native library is loaded, which is read from there and nowhere else.
          "java/lang/System.setProperty", Set.of("tensor"));

  private static final String ROOT = "dev/sluice/";

  /// An internal class name within a constant: alone, or after L in a descriptor or signature. Only
  /// names that begin in lower case, as all packages do, so that the L and the primitive types
  /// before it are left out.
  private static final Pattern CLASS_NAME = Pattern.compile("[a-z]\\w*/(?:\\w+/)*[\\w$]+");

  /// What is wrong with a class of the package `from` (empty for the root) that uses `used`, an
  /// internal class name or CLASS.MEMBER.
  private static List<String> violations(String from, String used) {
    var found = new ArrayList<String>();
    RESERVED.forEach(
        (what, allowed) -> {
          boolean hit = what.endsWith("/") ? used.startsWith(what) : used.equals(what);
          if (hit && !allowed.contains(from)) {
            found.add(what + " is for " + new TreeSet<>(allowed));
          }
        });
    if (used.startsWith(ROOT) && used.indexOf('.') < 0) {
      String to = packageOf(used);
      if (!to.isEmpty() && !ORDER.contains(to)) {
        found.add("the package '" + to + "' has no place in the order");
      } else if (!to.isEmpty() && ORDER.indexOf(to) > ORDER.indexOf(from)) {
        found.add(from + " is below " + to);
      }
    }
    return found;
  }

  /// `gate` for `dev/sluice/gate/Gate`, empty for `dev/sluice/InvalidInputException`.
  private static String packageOf(String name) {
    String rest = name.substring(ROOT.length());
    int end = rest.lastIndexOf('/');
    return end < 0 ? "" : rest.substring(0, end);
  }

  /// The class names within a constant.
  private static List<String> names(String constant) {
    var found = new ArrayList<String>();
    var names = CLASS_NAME.matcher(constant);
    while (names.find()) {
      found.add(names.group());
    }
    return found;
  }

  /// Everything that a class file names.
  private static Set<String> uses(byte[] bytes) {
    var uses = new TreeSet<String>();
    var pool = ClassFile.of().parse(bytes).constantPool();
    var texts = new HashSet<Utf8Entry>(); // of string constants, such as the names of resources
    for (PoolEntry entry : pool) {
      if (entry instanceof StringEntry string) {
        texts.add(string.utf8());
      }
    }
    for (PoolEntry entry : pool) {
      if (entry instanceof Utf8Entry text && !texts.contains(text)) {
        uses.addAll(names(text.stringValue()));
      }
      if (entry instanceof MemberRefEntry member) {
        uses.add(member.owner().asInternalName() + "." + member.name().stringValue());
      }
    }
    return uses;
  }

  private static List<String> violations(String from, byte[] bytes) {
    var found = new ArrayList<String>();
    uses(bytes).forEach(used -> found.addAll(violations(from, used)));
    return found;
  }

  private interface Check {
    void of(String name, byte[] bytes) throws IOException;
  }

  private static void everyClass(Check check) throws IOException {
    var classes = Path.of("target", "classes");
    try (var files = Files.walk(classes)) {
      for (Path file : files.filter(f -> f.toString().endsWith(".class")).sorted().toList()) {
        String name = classes.relativize(file).toString().replace(".class", "");
        if (!name.equals("module-info")) {
          check.of(name, Files.readAllBytes(file));
        }
      }
    }
  }

  @Test
  void packagesUseOnlyThoseBelow() throws IOException {
    var wrong = new TreeSet<String>();
    var seen = new TreeSet<String>();
    everyClass(
        (name, bytes) -> {
          assertTrue(name.startsWith(ROOT), name);
          String from = packageOf(name);
          seen.add(from);
          if (!from.isEmpty() && !ORDER.contains(from)) {
            wrong.add("the package '" + from + "' has no place in the order");
          }
          for (String violation : violations(from, bytes)) {
            wrong.add(name + ": " + violation);
          }
        });
    assertEquals(Set.of(), wrong);
    assertTrue(seen.containsAll(List.of("", "kernel", "tensor", "gate", "attention", "decoder")));
  }

  /// Where a tensor is, is asked by the tensor itself, by what chooses a device's operations, and
  /// by attention of libtorch's, which has another name on each device. All else says what is to be
  /// computed, so that a device is added in one place.
  private static boolean mayAskForTheDevice(String name) {
    return Set.of(
            "dev/sluice/tensor/Tensor",
            "dev/sluice/tensor/FlashAttention",
            "dev/sluice/operations/Operations")
        .contains(name);
  }

  private static boolean asksForTheDevice(byte[] bytes) {
    return uses(bytes).contains("dev/sluice/tensor/Tensor.isOnCpu");
  }

  @Test
  void onlyOnePlaceChoosesByDevice() throws IOException {
    var asking = new TreeSet<String>();
    everyClass(
        (name, bytes) -> {
          if (asksForTheDevice(bytes)) {
            asking.add(name);
          }
        });
    assertTrue(asking.remove("dev/sluice/operations/Operations"), asking::toString);
    asking.removeIf(ArchitectureTest::mayAskForTheDevice);
    assertEquals(Set.of(), asking);
  }

  @Test
  void askingForTheDeviceIsFound() throws IOException {
    byte[] bytes;
    try (var in = Asking.class.getResourceAsStream("ArchitectureTest$Asking.class")) {
      bytes = in.readAllBytes();
    }
    assertTrue(asksForTheDevice(bytes));
    assertFalse(mayAskForTheDevice("dev/sluice/tensor/Weight"));
  }

  /// Names the method without a call, as a stream does.
  static final class Asking {
    private Asking() {}

    static Predicate<Tensor> question() {
      return Tensor::isOnCpu;
    }
  }

  /// A rule that nothing could break would pass as well: the same classes, put into other packages,
  /// break it.
  @Test
  void classesInTheWrongPackageAreFound() throws IOException {
    everyClass(
        (name, bytes) -> {
          switch (name) {
            case "dev/sluice/attention/Attention" -> {
              assertTrue(violations("gate", bytes).contains("gate is below attention"));
              assertTrue(violations("probe", bytes).contains("probe is below gate"));
              assertEquals(List.of(), violations("decoder", bytes));
            }
            case "dev/sluice/tensor/Tensor" ->
                assertTrue(violations("gate", bytes).contains("org/bytedeco/ is for [tensor]"));
            case "dev/sluice/tensor/Libtorch" ->
                assertTrue(
                    violations("kernel", bytes)
                        .contains("java/lang/System.setProperty is for [tensor]"));
            case "dev/sluice/kernel/VectorKernels" ->
                assertTrue(
                    violations("gate", bytes).contains("jdk/incubator/vector/ is for [kernel]"));
            default -> {}
          }
        });
  }

  /// Printing, ending and asking the environment, compiled into this test.
  @Test
  void reservedMembersAreFound() throws IOException {
    byte[] bytes;
    try (var in = Offender.class.getResourceAsStream("ArchitectureTest$Offender.class")) {
      bytes = in.readAllBytes();
    }
    assertEquals(6, violations("gate", bytes).size(), () -> violations("gate", bytes).toString());
    assertEquals(List.of("java/lang/System.setProperty is for [tensor]"), violations("cli", bytes));
  }

  /// Does what only some packages may.
  static final class Offender {
    private Offender() {}

    static void offend() {
      System.out.println(System.getenv("HOME"));
      System.err.println(System.getProperty("user.home"));
      System.setProperty("a", "b");
      System.exit(1);
    }
  }

  @Test
  void theRuleItself() {
    assertEquals(List.of(), violations("gate", "dev/sluice/tensor/Tensor"));
    assertEquals(List.of(), violations("gate", "dev/sluice/gate/Sharing"));
    assertEquals(List.of(), violations("provenance", "dev/sluice/InvalidInputException"));
    assertEquals(List.of(), violations("study", "dev/sluice/report/Page"));
    assertEquals(List.of(), violations("cli", "java/lang/System.exit"));
    assertEquals(List.of("tensor is below gate"), violations("tensor", "dev/sluice/gate/Sharing"));
    assertEquals(
        List.of("evaluation is below training"),
        violations("evaluation", "dev/sluice/training/Trainer"));
    assertEquals(List.of("sink is below report"), violations("sink", "dev/sluice/report/Page"));
    assertEquals(
        List.of("dev/sluice/kernel/Kernels.FASTEST is for [kernel, operations, tensor]"),
        violations("decoder", "dev/sluice/kernel/Kernels.FASTEST"));
    assertEquals(List.of(" is below kernel"), violations("", "dev/sluice/kernel/Kernels"));
    assertEquals(
        List.of("the package 'utils' has no place in the order"),
        violations("cli", "dev/sluice/utils/Strings"));
    assertEquals(
        List.of("the package 'gate/more' has no place in the order"),
        violations("cli", "dev/sluice/gate/more/Gates"));
    assertEquals(
        List.of("java/lang/System.out is for [cli]"), violations("study", "java/lang/System.out"));
  }

  @Test
  void namesAreFoundWhereverTheyStand() {
    assertEquals(
        List.of("dev/sluice/gate/Gate", "dev/sluice/tensor/Tensor"),
        names("(ILdev/sluice/gate/Gate;[Ldev/sluice/tensor/Tensor;)V"));
    assertEquals(
        List.of("java/util/List", "dev/sluice/gate/Gate$Part"),
        names("Ljava/util/List<Ldev/sluice/gate/Gate$Part;>;"));
  }
}
