package dev.sluice.cli;

import java.io.IOException;
import java.lang.classfile.ClassFile;
import java.lang.classfile.ClassFile.ClassHierarchyResolverOption;
import java.lang.classfile.ClassFile.StackMapsOption;
import java.lang.classfile.ClassFileVersion;
import java.lang.classfile.ClassHierarchyResolver;
import java.lang.classfile.ClassTransform;
import java.lang.classfile.CodeTransform;
import java.net.URL;
import java.net.URLClassLoader;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.zip.ZipEntry;
import java.util.zip.ZipInputStream;
import java.util.zip.ZipOutputStream;

/// Writes the classes of a jar anew in the form of this Java: the same instructions, and beside
/// them the types at each branch, which class files lacked before Java 6. The virtual machine
/// checks such classes faster, and the cache that the launcher makes of a start can hold them
/// (`docs/decisions/0036-libtorch-when-it-is-asked-for.md`). The launcher runs this after a build.
final class NewerClasses {
  private static final String CLASS = ".class";

  /// Where a jar has what is not for every Java.
  private static final String OTHER = "META-INF/";

  private NewerClasses() {}

  /// @param arguments the jar, and the one to write
  public static void main(String[] arguments) throws IOException {
    write(Path.of(arguments[0]), Path.of(arguments[1]));
  }

  static void write(Path jar, Path to) throws IOException {
    try (var loader = new URLClassLoader(new URL[] {jar.toUri().toURL()}, null);
        var in = new ZipInputStream(Files.newInputStream(jar));
        var out = new ZipOutputStream(Files.newOutputStream(to))) {
      var resolver =
          ClassHierarchyResolver.ofResourceParsing(loader)
              .orElse(ClassHierarchyResolver.defaultResolver());
      var classes =
          ClassFile.of(
              StackMapsOption.GENERATE_STACK_MAPS, ClassHierarchyResolverOption.of(resolver));
      for (ZipEntry entry = in.getNextEntry(); entry != null; entry = in.getNextEntry()) {
        String name = entry.getName();
        if (!name.startsWith(OTHER) && name.endsWith(CLASS)) {
          out.putNextEntry(new ZipEntry(name));
          out.write(newer(classes, in.readAllBytes()));
        }
      }
    }
  }

  private static byte[] newer(ClassFile classes, byte[] bytes) {
    var version =
        ClassTransform.ofStateful(
            () ->
                (to, part) -> {
                  if (part instanceof ClassFileVersion) {
                    to.withVersion(ClassFile.latestMajorVersion(), 0);
                  } else {
                    to.with(part);
                  }
                });
    return classes.transformClass(
        classes.parse(bytes),
        ClassTransform.transformingMethodBodies(CodeTransform.ACCEPT_ALL).andThen(version));
  }
}
