package dev.sluice.provenance;

import com.sun.management.OperatingSystemMXBean;
import dev.sluice.InvalidInputException;
import dev.sluice.files.JsonFile;
import dev.sluice.files.WholeFile;
import java.io.IOException;
import java.lang.management.ManagementFactory;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Instant;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Optional;
import java.util.stream.Stream;
import tools.jackson.databind.DeserializationFeature;
import tools.jackson.databind.PropertyNamingStrategies;
import tools.jackson.databind.SerializationFeature;
import tools.jackson.databind.json.JsonMapper;

/// All that another person needs to repeat a run, or to say why theirs differs.
///
/// @param sluiceCommit the commit that Sluice was built from
/// @param commandLine the arguments as given, the command first
/// @param config the resolved configuration, defaults included, as it would be written to JSON
/// @param seeds each seed by what it seeds
/// @param dataFingerprint identifies the training data
/// @param libtorchVersion the tensor library's own words
/// @param machine what it ran on
/// @param startedAt when it began
public record RunManifest(
    String sluiceCommit,
    List<String> commandLine,
    Map<String, Object> config,
    Map<String, Long> seeds,
    String dataFingerprint,
    String libtorchVersion,
    Machine machine,
    Instant startedAt) {
  /// Its name in a run directory and in a checkpoint.
  public static final String FILE_NAME = "manifest.json";

  private static final JsonMapper JSON =
      JsonFile.mapper()
          .propertyNamingStrategy(PropertyNamingStrategies.SNAKE_CASE)
          .enable(SerializationFeature.INDENT_OUTPUT)
          .enable(DeserializationFeature.FAIL_ON_MISSING_CREATOR_PROPERTIES)
          .build();

  public RunManifest {
    Objects.requireNonNull(sluiceCommit, "sluice_commit");
    commandLine = List.copyOf(Objects.requireNonNull(commandLine, "command_line"));
    config = ordered(Objects.requireNonNull(config, "config"));
    seeds = ordered(Objects.requireNonNull(seeds, "seeds"));
    Objects.requireNonNull(dataFingerprint, "data_fingerprint");
    Objects.requireNonNull(libtorchVersion, "libtorch_version");
    Objects.requireNonNull(machine, "machine");
    Objects.requireNonNull(startedAt, "started_at");
  }

  /// `Map.copyOf` would shuffle the file from one run to the next.
  private static <V> Map<String, V> ordered(Map<String, V> map) {
    return Collections.unmodifiableMap(new LinkedHashMap<>(map));
  }

  /// The computer and the Java that a run had. Where the system does not tell, the text is
  /// `unknown`.
  ///
  /// @param memoryBytes what the process may use: the container's limit where there is one
  public record Machine(String java, String os, String cpu, int cores, long memoryBytes) {
    public Machine {
      Objects.requireNonNull(java, "java");
      Objects.requireNonNull(os, "os");
      Objects.requireNonNull(cpu, "cpu");
    }

    /// This machine.
    public static Machine current() {
      String os = property("os.name") + " " + property("os.version") + " " + property("os.arch");
      return new Machine(
          property("java.vendor") + " " + property("java.runtime.version"),
          os,
          cpuModel(),
          Runtime.getRuntime().availableProcessors(),
          ManagementFactory.getPlatformMXBean(OperatingSystemMXBean.class).getTotalMemorySize());
    }

    private static String property(String name) {
      return System.getProperty(name, "unknown");
    }

    /// Only Linux tells, and there only some processors do.
    private static String cpuModel() {
      try (Stream<String> lines = Files.lines(Path.of("/proc/cpuinfo"))) {
        return lines
            .filter(line -> line.startsWith("model name"))
            .map(line -> line.substring(line.indexOf(':') + 1).strip())
            .findFirst()
            .orElse("unknown");
      } catch (IOException e) {
        return "unknown";
      }
    }
  }

  /// Writes the manifest as indented JSON.
  public void write(Path file) throws IOException {
    WholeFile.write(file, JSON.writeValueAsString(this) + "\n");
  }

  /// The manifest beside a model's weights; empty where there is none, or it is another program's.
  public static Optional<RunManifest> beside(Path checkpoint) {
    Path file = checkpoint.resolve(FILE_NAME);
    if (!Files.isRegularFile(file)) {
      return Optional.empty();
    }
    try {
      return Optional.of(read(file));
    } catch (InvalidInputException _) {
      return Optional.empty();
    }
  }

  /// Reads what [#write] wrote. Fields that a later version added are passed over.
  public static RunManifest read(Path file) {
    return JsonFile.bound(
        file,
        JsonFile.SMALL,
        JSON,
        RunManifest.class,
        "name a run's manifest, or restore it from the run's checkpoint");
  }
}
