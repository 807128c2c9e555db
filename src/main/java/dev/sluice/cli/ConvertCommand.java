package dev.sluice.cli;

import dev.sluice.InvalidInputException;
import dev.sluice.Printable;
import dev.sluice.checkpoint.Conversion;
import dev.sluice.checkpoint.GatePacking;
import dev.sluice.checkpoint.GgufConversion;
import dev.sluice.checkpoint.ModelConfig;
import dev.sluice.gguf.GgufFile;
import dev.sluice.kernel.WeightFormat;
import dev.sluice.provenance.RunManifest;
import dev.sluice.report.Cell;
import dev.sluice.report.Numbers;
import dev.sluice.report.Table;
import dev.sluice.report.TextTable;
import dev.sluice.tensor.ElementType;
import java.io.IOException;
import java.math.BigDecimal;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Locale;
import java.util.Objects;
import java.util.concurrent.Callable;
import java.util.concurrent.CancellationException;
import java.util.regex.Pattern;
import org.jspecify.annotations.Nullable;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Option;
import picocli.CommandLine.Parameters;

/// `sluice convert`: writes a model anew in another packing, type or size of files.
@Command(
    name = "convert",
    customSynopsis = "sluice convert SOURCE TARGET [OPTIONS]",
    description = {
      "Writes a model directory anew: with its gates packed elsewhere, in another number type, in"
          + " files of another size; or as a GGUF file, which llama.cpp reads; or a GGUF file as a"
          + " model directory.",
      "",
      "Every weight is read back and compared bit for bit, and both models compute logits. TARGET"
          + " appears when all of that is done, or not at all. The tokenizer's files are copied."
    },
    mixinStandardHelpOptions = true,
    sortOptions = false,
    footer = {
      "",
      "Examples:",
      "  ./sluice convert runs/NAME model-bf16 --dtype bfloat16",
      "  ./sluice convert path/to/paper-model per-head --packing query_head",
      "  ./sluice convert path/to/qwen3 megatron --packing megatron_qkv --shard-size 2GB",
      "  ./sluice convert runs/NAME model.gguf --weights q8_0",
      "  ./sluice convert model.gguf path/to/directory"
    })
final class ConvertCommand implements Callable<Integer> {

  /// As `huggingface_hub` reads them; a unit with an i is a power of 1024.
  private static final Pattern SIZE =
      Pattern.compile("(\\d{1,6}(?:\\.\\d{1,9})?)\\s*([KMGT])(I?)B", Pattern.CASE_INSENSITIVE);

  private static final String USUAL_SHARD = Conversion.USUAL_SHARD / 1_000_000_000 + "GB";

  @Parameters(
      index = "0",
      paramLabel = "SOURCE",
      description =
          "A directory with config.json and weights, a run directory, which stands for its newest"
              + " checkpoint, or a .gguf file. It stays as it is.")
  private @Nullable Path source;

  @Parameters(
      index = "1",
      paramLabel = "TARGET",
      description =
          "A directory that is not there yet, or is empty; or a file that is not there yet, whose"
              + " name ends with .gguf.")
  private @Nullable Path target;

  @Option(
      names = "--packing",
      paramLabel = "P",
      description =
          "Where the gate's rows stand: key_value_group (q_proj, as the paper has it), query_head"
              + " (q_proj, as Qwen3-Next has it), separate, or megatron_qkv (one matrix with"
              + " queries, keys and values). Default: as in SOURCE.")
  private @Nullable String packing;

  @Option(
      names = "--dtype",
      paramLabel = "TYPE",
      description = "float32, bfloat16 or float16. Default: each tensor's own.")
  private @Nullable String type;

  @Option(
      names = "--weights",
      paramLabel = "FORMAT",
      description =
          "What the matrices of a .gguf file are: f32, f16, bf16, q8_0, q4_0, q4_k or q6_k; the"
              + " matrix that gives logits has six bits where others have four. Default: bf16.")
  private @Nullable String weights;

  @Option(
      names = "--shard-size",
      paramLabel = "SIZE",
      description =
          "How much one file may hold, such as 500MB, 2GB or 2GiB. Default: ${DEFAULT-VALUE}.")
  private String shardSize = USUAL_SHARD;

  @Option(
      names = "--without-logits",
      description =
          "Compare all weights but no logits, which needs memory for one model in float32.")
  private boolean withoutLogits;

  @Mixin private ThreadsOption threads = new ThreadsOption();

  @Override
  public Integer call() throws IOException {
    var wanted =
        new Conversion.Wanted(
            packing == null ? null : GatePacking.parse(packing),
            type == null ? null : type(type),
            bytes(shardSize),
            !withoutLogits);
    threads.apply();
    Path named = Objects.requireNonNull(source);
    Path place = Objects.requireNonNull(target);
    Path checkpoint = ModelSource.at(named).checkpoint();
    boolean toGguf = GgufFile.isNamed(place);
    boolean fromGguf = !Files.isDirectory(checkpoint);
    if (toGguf || fromGguf) {
      requireNone("--packing", packing, "the packing is that of the file");
      requireNone(
          "--dtype", type, toGguf ? "choose --weights" : "convert the directory that comes of it");
      requireNone(
          "--shard-size",
          shardSize.equals(USUAL_SHARD) ? null : shardSize,
          "the model is written as one file");
    }
    if (toGguf) {
      return toGguf(checkpoint, place);
    }
    requireNone("--weights", weights, "name a target that ends with .gguf, or use --dtype");
    if (fromGguf) {
      requireMemory(checkpoint);
      GgufConversion.toDirectory(checkpoint, place).forEach(Console::note);
      Console.print("Written: " + place);
      return 0;
    }
    Conversion.requirePlace(named, place);
    if (!withoutLogits) {
      requireMemory(checkpoint);
    }
    Interruption.watch("Stopping; what was written is removed first.");
    Conversion.Result result;
    try {
      result = Conversion.convert(checkpoint, place, wanted, new ConversionProgress());
    } catch (CancellationException _) {
      Console.note("Stopped; there is no " + place + ".");
      return 130;
    }
    result.notes().forEach(Console::note);
    Console.print(TextTable.of(table(result)).toString());
    Console.print("Written: " + place);
    return 0;
  }

  private static void requireNone(String option, @Nullable String given, String wayOut) {
    if (given != null) {
      throw new InvalidInputException(
          "%s %s has no effect here; leave it out: %s"
              .formatted(option, Printable.brief(given, 60), wayOut));
    }
  }

  private int toGguf(Path checkpoint, Path place) throws IOException {
    var format = weights == null ? WeightFormat.BF16 : WeightFormat.toMake(weights);
    GgufConversion.requirePlace(place);
    if (!withoutLogits) {
      requireMemory(checkpoint);
    }
    Interruption.watch("Stopping; what was written is removed first.");
    GgufConversion.Result result;
    try {
      result =
          GgufConversion.toFile(
              checkpoint, place, format, !withoutLogits, new ConversionProgress());
    } catch (CancellationException _) {
      Console.note("Stopped; there is no " + place + ".");
      return 130;
    }
    result.notes().forEach(Console::note);
    Console.print(TextTable.of(table(result)).toString());
    Console.print("Written: " + place);
    return 0;
  }

  private static Table table(GgufConversion.Result result) {
    var table =
        Table.titled(
                "What was written: architecture %s, %s"
                    .formatted(result.architecture(), Numbers.bytes(result.bytes())))
            .columns("format", "tensors", "largest relative error");
    for (var format : result.tensors().entrySet()) {
      table =
          table.row(
              Cell.of(format.getKey().word()),
              count(format.getValue()),
              Cell.of(
                  Numbers.significant(
                      Objects.requireNonNull(result.errors().get(format.getKey())), 3)));
    }
    table =
        table.footnote(
            "Every weight was read back. The error is the root of the mean squared error of the"
                + " worst tensor, as a share of the root of its mean square.");
    Double difference = result.difference();
    Double size = result.size();
    return difference == null || size == null
        ? table.footnote("Logits were not compared.")
        : table.footnote(
            "Logits differ by %s at most, where the root of their mean square is %s."
                .formatted(Numbers.significant(difference, 3), Numbers.significant(size, 3)));
  }

  private static void requireMemory(Path checkpoint) {
    long needed = 4 * ModelConfig.read(checkpoint).decoder().parameterCount();
    long there = RunManifest.Machine.current().memoryBytes();
    if (needed > there) {
      throw new InvalidInputException(
          "comparing logits needs %s for one model in float32, and the machine has %s; pass --without-logits, which compares all weights"
              .formatted(Numbers.bytes(needed), Numbers.bytes(there)));
    }
  }

  private static ElementType type(String word) {
    return switch (word) {
      case "float32" -> ElementType.FLOAT32;
      case "bfloat16" -> ElementType.BFLOAT16;
      case "float16" -> ElementType.FLOAT16;
      default ->
          throw new InvalidInputException(
              "unknown --dtype '%s'; use float32, bfloat16 or float16"
                  .formatted(Printable.brief(word, 60)));
    };
  }

  /// Bytes of a size with its unit.
  static long bytes(String size) {
    var matcher = SIZE.matcher(size.strip());
    if (!matcher.matches()) {
      throw new InvalidInputException(
          "--shard-size '%s' is no size; give one such as 500MB, 2GB or 2GiB"
              .formatted(Printable.brief(size, 60)));
    }
    int power = 1 + "KMGT".indexOf(matcher.group(2).toUpperCase(Locale.ROOT));
    var unit = BigDecimal.valueOf(matcher.group(3).isEmpty() ? 1000 : 1024).pow(power);
    long bytes = new BigDecimal(matcher.group(1)).multiply(unit).longValue();
    if (bytes < 1) {
      throw new InvalidInputException(
          "--shard-size '%s' is less than a byte; give one such as 500MB".formatted(size));
    }
    return bytes;
  }

  private static Table table(Conversion.Result result) {
    var from = result.from();
    var to = result.to();
    var table =
        Table.titled("What was converted")
            .columns("what", "from", "to")
            .row(Cell.of("model_type"), Cell.of(from.modelType()), Cell.of(to.modelType()))
            .row(Cell.of("gate packing"), packing(from), packing(to))
            .row(Cell.of("type"), types(from), types(to))
            .row(Cell.of("tensors"), count(from.tensors()), count(to.tensors()))
            .row(Cell.of("bytes"), count(from.bytes()), count(to.bytes()))
            .row(Cell.of("shards"), count(from.files()), count(to.files()))
            .row(Cell.of("largest difference of logits"), Cell.missing(), difference(result))
            .footnote(
                result.isRounded()
                    ? "Every weight of the target is the source's, rounded to the target's type:"
                        + " compared bit for bit."
                    : "Every weight of the target is the source's: compared bit for bit.");
    if (result.mirrored() != null) {
      table =
          table.footnote(
              "The same roundings the other way change the logits by %s."
                  .formatted(Numbers.significant(result.mirrored(), 3)));
    }
    return table;
  }

  private static Cell packing(Conversion.Side side) {
    return side.packing().isEmpty() ? Cell.of("no gate is packed") : Cell.of(side.packing());
  }

  private static Cell types(Conversion.Side side) {
    return Cell.of(String.join(", ", side.types()));
  }

  private static Cell count(long count) {
    return Cell.of(Numbers.count(count));
  }

  private static Cell difference(Conversion.Result result) {
    Double difference = result.difference();
    return Cell.of(difference == null ? "not compared" : Numbers.significant(difference, 3));
  }
}
