package dev.sluice.checkpoint;

import dev.sluice.InvalidInputException;
import dev.sluice.checkpoint.Family.Parameter;
import dev.sluice.decoder.Decoder;
import dev.sluice.decoder.DecoderConfig;
import dev.sluice.decoder.MultiTokenPrediction;
import dev.sluice.files.JsonFile;
import dev.sluice.files.Trees;
import dev.sluice.files.WholeDirectory;
import dev.sluice.files.WholeFile;
import dev.sluice.gguf.GgufFile;
import dev.sluice.gguf.GgufWriter;
import dev.sluice.gguf.GgufWriter.Planned;
import dev.sluice.kernel.WeightFormat;
import dev.sluice.operations.Precision;
import dev.sluice.tensor.Device;
import dev.sluice.tensor.Parameters;
import dev.sluice.tensor.Scope;
import dev.sluice.tokenizer.GgufTokenizer;
import dev.sluice.tokenizer.Tokenizers;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.file.Files;
import java.nio.file.LinkOption;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.TreeMap;
import java.util.concurrent.CancellationException;
import java.util.stream.Stream;
import org.jspecify.annotations.Nullable;

/// Writes a model as a GGUF file that llama.cpp reads, and a GGUF file as a model directory. One
/// stored tensor is in memory at a time until logits are compared.
///
/// A GGUF file appears when all of it was read back and compared, or not at all.
public final class GgufConversion {
  /// Numbers that are made into blocks at a time.
  private static final int PIECE = 1 << 16;

  /// What came of it.
  ///
  /// @param architecture the word of GGUF
  /// @param tensors how many tensors each format has
  /// @param bytes of all tensors
  /// @param errors of each format, the root of the mean squared error of its worst tensor as a
  ///   share of the root of the tensor's mean square
  /// @param difference the largest of two logits, in absolute terms; null where none were compared
  /// @param size the root of the mean square of the source's logits; null likewise
  /// @param notes what has to be known, in sentences
  public record Result(
      String architecture,
      Map<WeightFormat, Integer> tensors,
      long bytes,
      Map<WeightFormat, Double> errors,
      @Nullable Double difference,
      @Nullable Double size,
      List<String> notes) {
    public Result {
      tensors = new TreeMap<>(tensors);
      errors = new TreeMap<>(errors);
      notes = List.copyOf(notes);
    }
  }

  /// A parameter and its place in the file.
  private record Part(Parameter parameter, GgufPlace place) {}

  /// A tensor of the file and what it is made of.
  private record Whole(Planned planned, List<Part> parts) {}

  private final Path source;
  private final WeightFormat format;
  private final Conversion.Listener listener;
  private final ModelConfig config;

  /// The source's, with the head that drafts tokens where it has one.
  private final ParameterReader reader;

  private final boolean drafts;

  /// The model's, with the head's block.
  private final ModelConfig stored;

  private final GgufArchitecture architecture;
  private final Map<String, Whole> wholes = new LinkedHashMap<>();
  private final Map<WeightFormat, Double> errors = new TreeMap<>();
  private final List<String> notes = new ArrayList<>();
  private float[] rotaryFactors = {};
  private final long total;
  private long done;

  private GgufConversion(
      Path source,
      WeightFormat format,
      boolean comparesLogits,
      Conversion.Listener listener,
      ModelConfig config,
      ParameterReader reader,
      boolean drafts) {
    this.source = source;
    this.format = format;
    this.listener = listener;
    this.reader = reader;
    this.config = config.with(reader.decoder());
    this.drafts = drafts;
    this.stored =
        drafts ? config.with(MultiTokenPrediction.withBlock(reader.decoder())) : this.config;
    this.architecture = GgufDescription.architecture(this.config);
    long bytes = parameters().stream().mapToLong(GgufConversion::bytes).sum();
    this.total = (comparesLogits ? 4 : 2) * bytes; // written, compared; two models
  }

  // ---------------------------------------------------------------- to a file

  /// Writes a GGUF file.
  ///
  /// @param source a model directory or a GGUF file; it stays as it is
  /// @param target a file that is not there
  /// @param format of the matrices; norms, convolutions, routers, decays, biases and sinks stay
  ///   float32, and so do rows that are no whole blocks of anything
  /// @throws CancellationException if the listener wants to stop; no target is there then
  public static Result toFile(
      Path source,
      Path target,
      WeightFormat format,
      boolean comparesLogits,
      Conversion.Listener listener)
      throws IOException {
    requirePlace(target);
    Path gguf = GgufModel.at(source);
    if (gguf != null) {
      try (var model = GgufModel.open(gguf);
          var _ = Scope.withoutGradient()) {
        boolean drafts = model.hasKnownHead();
        var reader = model.reader(drafts);
        var conversion =
            new GgufConversion(
                gguf, format, comparesLogits, listener, model.config(), reader, drafts);
        conversion.notes.addAll(model.notes());
        return conversion.convert(target, comparesLogits);
      }
    }
    var config = ModelConfig.read(source);
    try (var files = SafetensorsDirectory.open(source);
        var _ = Scope.withoutGradient()) {
      boolean drafts = StoredWeights.hasKnownHead(files, config);
      var reader =
          new WeightReader(source, config, StoredWeights.of(files, config, drafts), drafts);
      var conversion =
          new GgufConversion(source, format, comparesLogits, listener, config, reader, drafts);
      conversion.notes.addAll(files.notes());
      return conversion.convert(target, comparesLogits);
    }
  }

  /// Refuses a target that is there, or that no file of such a name can be.
  public static void requirePlace(Path target) {
    if (!GgufFile.isNamed(target)) {
      throw new InvalidInputException(
          "%s does not end with %s; name a file that does".formatted(target, GgufFile.SUFFIX));
    }
    if (Files.exists(target, LinkOption.NOFOLLOW_LINKS)) {
      throw new InvalidInputException(
          "%s exists already; name a file that is not there yet".formatted(target));
    }
    Path folder = target.toAbsolutePath().normalize().getParent();
    if (folder == null || !Files.isDirectory(folder)) {
      throw new InvalidInputException(
          "%s is no directory, so no file can be made in it; make it first".formatted(folder));
    }
  }

  private Result convert(Path target, boolean comparesLogits) throws IOException {
    var writer = new GgufWriter();
    String name = String.valueOf(source.toAbsolutePath().normalize().getFileName());
    GgufDescription.general(architecture, name, fileType(), writer);
    notes.addAll(config.notes());
    notes.addAll(GgufDescription.write(architecture, config.decoder(), drafts, writer));
    if (drafts) {
      notes.add("the head that drafts tokens (MTP) is written too");
    }
    plan();
    notes.addAll(writeTokenizer(writer));
    if (suggestsSampling()) {
      notes.add("what generation_config.json suggests for sampling is not written");
    }
    Path place = target.toAbsolutePath().normalize();
    notes.addAll(Conversion.noteLeftovers(place, null));
    Path partial = WholeFile.partial(place);
    try {
      writer.write(partial, wholes.values().stream().map(Whole::planned).toList(), this::write);
      reader.judgeTheRest();
      notes.addAll(reader.notes());
      Double[] logits = new Double[2];
      try (var written = GgufModel.open(partial)) {
        compareParameters(written);
        if (comparesLogits) {
          logits = compareLogits(written);
        }
      }
      requireGoingOn("ending");
      Files.move(partial, target, StandardCopyOption.ATOMIC_MOVE);
      return result(logits);
    } finally {
      Files.deleteIfExists(partial);
    }
  }

  private boolean suggestsSampling() {
    Path said = source.resolve("generation_config.json");
    if (!Files.isRegularFile(said)) {
      return false;
    }
    var config = JsonFile.object(said, JsonFile.SMALL, "correct it or remove it");
    return Stream.of("temperature", "top_k", "top_p", "min_p", "repetition_penalty")
        .anyMatch(config::has);
  }

  private Result result(Double[] logits) {
    Map<WeightFormat, Integer> tensors = new TreeMap<>();
    wholes.values().forEach(whole -> tensors.merge(whole.planned.format(), 1, Integer::sum));
    return new Result(
        architecture.word(),
        tensors,
        wholes.values().stream().mapToLong(whole -> whole.planned.bytes()).sum(),
        errors,
        logits[0],
        logits[1],
        notes.stream().distinct().toList());
  }

  /// Of llama.cpp's `llama_ftype`.
  private int fileType() {
    return switch (format) {
      case F32 -> 0;
      case F16 -> 1;
      case Q4_0 -> 2;
      case Q8_0 -> 7;
      case Q4_K -> 14;
      case Q6_K -> 18;
      case BF16 -> 32;
      case Q4_1, Q5_0, Q5_1, Q2_K, Q3_K, Q5_K, IQ4_NL, IQ4_XS, TQ1_0, TQ2_0, MXFP4 ->
          throw new IllegalStateException(format.word());
      case I4_32, I4_64, I4_128, E4M3 -> throw new IllegalStateException(format.word());
    };
  }

  private List<String> writeTokenizer(GgufWriter writer) throws IOException {
    int rows = config.decoder().vocabSize();
    if (Files.isDirectory(source)) {
      return GgufTokenizer.write(source, rows, writer);
    }
    try (var file = GgufFile.open(source)) {
      if (!GgufTokenizer.isIn(file)) {
        GgufTokenizer.writeNone(writer);
        return List.of("%s holds no tokenizer, so none is written".formatted(source));
      }
    }
    Path folder = Files.createTempDirectory("sluice-tokenizer");
    try {
      Tokenizers.load(source.toString()).write(folder);
      return GgufTokenizer.write(folder, rows, writer);
    } finally {
      Trees.remove(folder);
    }
  }

  // ---------------------------------------------------------------- what

  private List<Parameter> parameters() {
    List<Parameter> parameters = new ArrayList<>();
    reader.parameters().forEach((name, spec) -> parameters.add(Parameter.of(name, spec)));
    return parameters;
  }

  /// Bytes of a parameter in float32.
  private static long bytes(Parameter parameter) {
    return Math.multiplyExact(parameter.spec().elements(), Float.BYTES);
  }

  private void plan() {
    Map<String, List<Part>> parts = new LinkedHashMap<>();
    for (var parameter : parameters()) {
      var places = GgufPlace.of(architecture, stored, parameter);
      if (places.isEmpty()) {
        throw new InvalidInputException(
            "GGUF's architecture %s has no place for %s, which llama.cpp does not compute; write the model as a directory"
                .formatted(architecture.word(), Listing.quoted(parameter.name())));
      }
      var place = places.getFirst();
      parts
          .computeIfAbsent(place.place().tensor(), _ -> new ArrayList<>())
          .add(new Part(parameter, place));
    }
    float[] factors = GgufDescription.rotaryFactors(architecture, config.decoder());
    if (factors != null) {
      rotaryFactors = factors;
      wholes.put(
          GgufPlace.ROTARY_FACTORS,
          new Whole(
              new Planned(
                  GgufPlace.ROTARY_FACTORS, WeightFormat.F32, List.of((long) factors.length)),
              List.of()));
    }
    Map<WeightFormat, Integer> others = new TreeMap<>();
    parts.forEach(
        (name, of) -> {
          var place = of.getFirst().place.place();
          long elements = of.stream().mapToLong(part -> part.parameter.spec().elements()).sum();
          if (elements != place.stored()) {
            throw new IllegalStateException(
                "%d numbers are there for %s of %s"
                    .formatted(elements, name, Arrays.toString(place.shape())));
          }
          var kept = format(name, place.shape());
          if (isMatrix(name, place.shape())
              && kept != RoundedMatrices.wanted(format, givesLogits(name))) {
            others.merge(kept, 1, Integer::sum);
          }
          List<Long> shape = Arrays.stream(place.shape()).boxed().toList();
          wholes.put(name, new Whole(new Planned(name, kept, shape), of));
        });
    others.forEach(
        (kept, count) ->
            notes.add(
                "%d tensors are stored as %s, since their rows are no whole blocks of %s"
                    .formatted(count, kept.word(), format.word())));
  }

  /// Whether llama.cpp lets a tensor be of few bits: norms, decays, biases and sinks have one
  /// dimension, and convolutions and routers are left as they are (`llama-quant.cpp`).
  private static boolean isMatrix(String name, long[] shape) {
    long dimensions = Arrays.stream(shape).filter(each -> each != 1).count();
    return dimensions > 1
        && name.endsWith(".weight")
        && !name.contains("ssm_conv1d")
        && !name.contains("ffn_gate_inp");
  }

  private boolean givesLogits(String name) {
    return name.equals("output.weight")
        || (name.equals("token_embd.weight") && config.decoder().tieWordEmbeddings());
  }

  private WeightFormat format(String name, long[] shape) {
    return isMatrix(name, shape)
        ? RoundedMatrices.format(format, givesLogits(name), shape[shape.length - 1])
        : WeightFormat.F32;
  }

  private void requireGoingOn(String doing) {
    if (listener.isStopping()) {
      throw new CancellationException("stopped while " + doing);
    }
  }

  private void advance(String doing, Parameter parameter) {
    requireGoingOn(doing);
    done += bytes(parameter);
    listener.advanced(doing, done, total);
  }

  // ---------------------------------------------------------------- writing

  private void write(Planned planned, GgufWriter.Data out) throws IOException {
    if (planned.name().equals(GgufPlace.ROTARY_FACTORS)) {
      out.write(MemorySegment.ofArray(rotaryFactors));
      return;
    }
    var whole = Objects.requireNonNull(wholes.get(planned.name()));
    try (var _ = Scope.open();
        var arena = Arena.ofShared()) {
      var numbers =
          ParameterReader.uninitialized(
              planned.shape().stream().mapToLong(Long::longValue).toArray());
      for (var part : whole.parts) {
        try (var _ = Scope.open()) {
          advance("writing", part.parameter);
          var parameter = reader.read(part.parameter);
          part.place.store(parameter);
          part.place.place().write(parameter, numbers);
        }
      }
      var blocks = arena.allocate(planned.format().bytes(PIECE));
      for (long at = 0; at < numbers.elements(); at += PIECE) {
        int count = (int) Math.min(PIECE, numbers.elements() - at);
        var piece = numbers.memory().asSlice(at * Float.BYTES, (long) count * Float.BYTES);
        long bytes = planned.format().bytes(count);
        if (!RoundedMatrices.round(planned.format(), piece, blocks.asSlice(0, bytes))) {
          throw tooLarge(whole);
        }
        out.write(blocks.asSlice(0, bytes));
      }
    }
  }

  /// Names the parameter with the largest number of those that a tensor is made of.
  private InvalidInputException tooLarge(Whole whole) {
    var named = whole.parts.getFirst().parameter;
    var numbers = reader.read(named).memory();
    for (var part : whole.parts) {
      var others = reader.read(part.parameter).memory();
      if (Math.abs(RoundedMatrices.largest(others)) > Math.abs(RoundedMatrices.largest(numbers))) {
        named = part.parameter;
        numbers = others;
      }
    }
    return RoundedMatrices.tooLarge(named.name(), whole.planned.format(), numbers);
  }

  // ---------------------------------------------------------------- comparing

  /// Every parameter of the file, read back, is the source's: to the bit where its format holds it,
  /// else as near as such a format comes.
  private void compareParameters(GgufModel written) {
    if (!GgufDescription.computed(written.config().decoder())
        .equals(GgufDescription.computed(config.decoder()))) {
      throw new InvalidInputException(
          "GGUF's architecture %s does not say all that the model is: it would read as %s where it is %s; keep it as a directory"
              .formatted(
                  architecture.word(),
                  shortened(written.config().decoder(), config.decoder()),
                  shortened(config.decoder(), written.config().decoder())));
    }
    var again = written.reader(drafts);
    for (var whole : wholes.values()) {
      for (var part : whole.parts) {
        try (var _ = Scope.open()) {
          advance("comparing", part.parameter);
          // numbers near zero may be stored as ones near one
          double beside = part.place.values() == GgufPlace.Values.SAME ? 0 : 1;
          var wanted = reader.read(part.parameter).memory();
          double error = RoundedMatrices.error(wanted, again.read(part.parameter).memory(), beside);
          if (!(error < RoundedMatrices.ANOTHER)) {
            var format = whole.planned.format();
            if (RoundedMatrices.areTiny(format, wanted)) {
              throw RoundedMatrices.tooSmall(part.parameter.name(), format, error);
            }
            throw new IllegalStateException(
                "%s was not written as it was read: %s of its size"
                    .formatted(part.parameter.name(), error));
          }
          errors.merge(whole.planned.format(), error, Math::max);
        }
      }
    }
    again.judgeTheRest();
  }

  /// Where two models first differ, in words of the first.
  private static String shortened(DecoderConfig one, DecoderConfig other) {
    String text = GgufDescription.computed(one).toString();
    String wanted = GgufDescription.computed(other).toString();
    int at = 0;
    while (at < Math.min(text.length(), wanted.length()) && text.charAt(at) == wanted.charAt(at)) {
      at++;
    }
    int begin = Math.max(0, text.lastIndexOf('[', at) - 30);
    return "'…" + text.substring(begin, Math.min(text.length(), at + 60)) + "…'";
  }

  private Double[] compareLogits(GgufModel written) {
    float[] ours = logits(reader);
    float[] theirs = logits(written.reader(drafts));
    double largest = 0;
    double squares = 0;
    for (int i = 0; i < ours.length; i++) {
      largest = Math.max(largest, Math.abs((double) ours[i] - theirs[i]));
      squares += (double) ours[i] * ours[i];
    }
    return new Double[] {largest, Math.sqrt(squares / ours.length)};
  }

  private float[] logits(ParameterReader from) {
    try (var _ = Scope.open()) {
      parameters().forEach(parameter -> advance("computing logits", parameter));
      var parameters = new Parameters(from.parameters(), from.read(Device.CPU));
      try (var decoder = new Decoder(from.decoder(), Precision.FLOAT32, Device.CPU, parameters)) {
        return Conversion.logits(decoder);
      }
    }
  }

  // ---------------------------------------------------------------- to a directory

  /// Writes the model of a GGUF file as a model directory in float32, with its tokenizer.
  ///
  /// @param target not there, or an empty directory
  /// @return what has to be known, in sentences
  public static List<String> toDirectory(Path gguf, Path target) throws IOException {
    Path place = Conversion.place(gguf, target);
    try (var _ = Scope.withoutGradient()) {
      var opened = ModelDirectory.open(gguf, Precision.FLOAT32, Device.CPU, false);
      List<String> notes = new ArrayList<>(opened.notes());
      try (var _ = opened.decoder()) {
        WholeDirectory.write(
            place,
            directory -> {
              ModelDirectory.write(directory, opened);
              try {
                Tokenizers.load(gguf.toString()).write(directory);
              } catch (InvalidInputException e) {
                notes.add("no tokenizer is written: " + e.getMessage());
              }
              try (var file = GgufFile.open(gguf)) {
                GgufTokenizer.writeEnds(file, opened.decoder().config().vocabSize(), directory);
                if (!file.metadata().left("general.sampling.").isEmpty()) {
                  notes.add("what the file suggests for sampling is not written");
                }
              }
            });
      }
      return notes;
    }
  }
}
