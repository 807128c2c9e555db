package dev.sluice.checkpoint;

import dev.sluice.InvalidInputException;
import dev.sluice.Printable;
import dev.sluice.checkpoint.Family.Parameter;
import dev.sluice.decoder.Decoder;
import dev.sluice.decoder.DecoderConfig;
import dev.sluice.files.Failures;
import dev.sluice.files.JsonFile;
import dev.sluice.files.Trees;
import dev.sluice.files.WholeDirectory;
import dev.sluice.files.WholeFile;
import dev.sluice.operations.Precision;
import dev.sluice.probe.Probe;
import dev.sluice.provenance.RunManifest;
import dev.sluice.tensor.Device;
import dev.sluice.tensor.ElementType;
import dev.sluice.tensor.Scope;
import dev.sluice.tensor.Tensor;
import java.io.IOException;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.file.Files;
import java.nio.file.LinkOption;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Objects;
import java.util.Set;
import java.util.SplittableRandom;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.concurrent.CancellationException;
import java.util.function.UnaryOperator;
import org.jspecify.annotations.Nullable;
import tools.jackson.databind.node.ObjectNode;

/// Writes a model directory anew: its gates packed elsewhere, its numbers of another type, its
/// weights in files of another size. One parameter and one stored tensor are in memory at a time
/// until the logits are compared, which needs one model at a time.
///
/// The target appears whole and compared, or not at all.
public final class Conversion {
  /// The size of files where none is asked for.
  public static final long USUAL_SHARD = 5_000_000_000L;

  /// What tokenizers and generation read besides the weights, and how the model was trained.
  private static final Set<String> COMPANIONS =
      Set.of(
          "tokenizer.json",
          "tokenizer_config.json",
          "tokenizer.model",
          "vocab.json",
          "vocab.txt",
          "merges.txt",
          "special_tokens_map.json",
          "added_tokens.json",
          "chat_template.jinja",
          "chat_template.json",
          "generation_config.json",
          RunManifest.FILE_NAME);

  private static final long LARGEST_COMPANION = 1L << 28;

  /// As many as a reader of a sharded model opens.
  private static final int MOST_SHARDS = 10_000;

  /// Tokens whose logits are compared.
  private static final int TOKENS = 48;

  private static final long SEED = 20;

  /// What is wanted.
  ///
  /// @param packing null for the source's
  /// @param type float32, bfloat16 or float16; null for each tensor's own
  /// @param shardBytes of numbers that a file may hold, where one tensor has no more
  /// @param comparesLogits whether both models compute, which needs memory for one at a time
  /// @param positions what becomes of the model besides, of which no weight knows
  public record Wanted(
      @Nullable GatePacking packing,
      @Nullable ElementType type,
      long shardBytes,
      boolean comparesLogits,
      UnaryOperator<DecoderConfig> positions) {
    /// The model stays what it is.
    public Wanted(
        @Nullable GatePacking packing,
        @Nullable ElementType type,
        long shardBytes,
        boolean comparesLogits) {
      this(packing, type, shardBytes, comparesLogits, UnaryOperator.identity());
    }

    /// All stays as it is, but for positions.
    public static Wanted of(UnaryOperator<DecoderConfig> positions) {
      return new Wanted(null, null, USUAL_SHARD, false, positions);
    }

    public Wanted {
      if (shardBytes < 1) {
        throw new InvalidInputException(
            "the size of a shard must be positive, not %d bytes".formatted(shardBytes));
      }
    }
  }

  /// Hears how a conversion goes, on the thread that converts.
  public interface Listener {
    /// Hears nothing and never stops.
    Listener NOBODY =
        new Listener() {
          @Override
          public void advanced(String doing, long done, long total) {}

          @Override
          public boolean isStopping() {
            return false;
          }
        };

    /// @param doing in a word: `writing`
    /// @param done bytes of float32 that were gone through, out of `total`
    void advanced(String doing, long done, long total);

    /// Whether to stop; asked between two tensors.
    boolean isStopping();
  }

  /// A model directory in numbers.
  ///
  /// @param packing the word; none where no gate is packed
  /// @param types the words of its element types, the most common first
  /// @param bytes of all tensors
  /// @param files that hold them
  public record Side(
      String modelType, String packing, List<String> types, int tensors, long bytes, int files) {
    public Side {
      types = List.copyOf(types);
    }
  }

  /// What came of it. Every parameter of the target is the source's, rounded to the target's type.
  ///
  /// @param isRounded whether a number changed by that
  /// @param difference the largest of two logits, in absolute terms; null where none were compared
  /// @param mirrored the same from the source to itself with every number rounded as far the other
  ///   way: what such roundings do
  /// @param notes what has to be known, in sentences
  public record Result(
      Side from,
      Side to,
      boolean isRounded,
      @Nullable Double difference,
      @Nullable Double mirrored,
      List<String> notes) {
    public Result {
      notes = List.copyOf(notes);
    }
  }

  /// A parameter and its place in the target.
  private record Part(Parameter parameter, Placement place) {}

  /// A tensor of the target and what it is made of.
  private record Whole(StoredTensor tensor, List<Part> parts) {}

  private final Path source;
  private final Wanted wanted;
  private final Listener listener;
  private final SafetensorsDirectory files;
  private final ModelConfig config;
  private final WeightReader reader;
  private final ModelConfig target;
  private final List<String> notes = new ArrayList<>();
  private final Map<String, Whole> wholes = new LinkedHashMap<>();
  private final long total;
  private long done;
  private boolean isRounded;

  private Conversion(
      Path source,
      Wanted wanted,
      Listener listener,
      ModelConfig config,
      SafetensorsDirectory files) {
    this.source = source;
    this.wanted = wanted;
    this.listener = listener;
    this.files = files;
    this.config = config;
    this.reader = new WeightReader(source, config, StoredWeights.of(files, config));
    var own = config.with(wanted.positions.apply(reader.decoder()));
    this.target = wanted.packing == null ? own : own.packed(wanted.packing);
    requireWritable();
    long bytes = parameters().stream().mapToLong(Conversion::bytes).sum();
    this.total = (wanted.comparesLogits ? 5 : 3) * bytes; // checked, written, compared; two models
  }

  /// Converts a model directory.
  ///
  /// @param source a directory with `config.json` and weights; it stays as it is
  /// @param target not there, or an empty directory; not within the source
  /// @throws CancellationException if the listener wants to stop; no target is there then
  public static Result convert(Path source, Path target, Wanted wanted, Listener listener)
      throws IOException {
    Path place = place(source, target);
    if (Quantization.at(source) != null) {
      throw new InvalidInputException(
          "the weights in %s are quantized, and a model directory is not written anew from such; convert it to a .gguf file"
              .formatted(source));
    }
    var config = ModelConfig.read(source);
    try (var files = SafetensorsDirectory.open(source);
        var _ = Scope.withoutGradient()) {
      var conversion = new Conversion(source, wanted, listener, config, files);
      conversion.plan();
      Result[] result = new Result[1];
      WholeDirectory.write(place, directory -> result[0] = conversion.fill(directory, place));
      return Objects.requireNonNull(result[0]);
    } catch (InvalidInputException e) {
      throw config.notes().isEmpty()
          ? e
          : new InvalidInputException(
              "%s (%s)".formatted(e.getMessage(), String.join("; ", config.notes())), e);
    }
  }

  // ---------------------------------------------------------------- where to

  /// Refuses a target that is there with something in it, or is a link, or lies within the source
  /// or around it.
  public static void requirePlace(Path source, Path target) throws IOException {
    place(source, target);
  }

  /// The target's place, through no link.
  static Path place(Path source, Path target) throws IOException {
    Path absolute = target.toAbsolutePath();
    Path existing = absolute;
    while (!Files.exists(existing, LinkOption.NOFOLLOW_LINKS) && existing.getParent() != null) {
      existing = existing.getParent();
    }
    if (Files.isSymbolicLink(existing) && (existing.equals(absolute) || !Files.exists(existing))) {
      throw new InvalidInputException(
          existing + " is a link; name the directory itself, or one that is not there yet");
    }
    if (!Files.isDirectory(existing)) {
      throw new InvalidInputException(
          existing + " is not a directory; name a target that is not there yet");
    }
    Path place =
        existing.toRealPath().resolve(existing.relativize(absolute).toString()).normalize();
    Path origin = source.toRealPath();
    if (place.startsWith(origin) || origin.startsWith(place)) {
      throw new InvalidInputException(
          place.equals(origin)
              ? "%s is the source itself, which stays as it is; name another target"
                  .formatted(target)
              : "%s and the source %s lie one within the other; name a target elsewhere"
                  .formatted(target, source));
    }
    if (Files.exists(place, LinkOption.NOFOLLOW_LINKS) && !Trees.children(place).isEmpty()) {
      throw new InvalidInputException(
          "%s holds %s already; name a target that is not there yet, or an empty directory"
              .formatted(
                  target,
                  Listing.of(
                      Trees.children(place).stream()
                          .map(child -> String.valueOf(child.getFileName()))
                          .toList())));
    }
    return place;
  }

  /// What conversions to the same place left that were killed, or are under way.
  ///
  /// @param own the caller's, which counts not; null where it has none yet
  static List<String> noteLeftovers(Path place, @Nullable Path own) throws IOException {
    return WholeFile.leftBeside(place).stream()
        .filter(child -> !child.equals(own))
        .map(
            child ->
                child
                    + " is of another conversion to this place; remove it unless one is under way")
        .toList();
  }

  // ---------------------------------------------------------------- what

  private List<Parameter> parameters() {
    List<Parameter> parameters = new ArrayList<>();
    reader.decoder().parameters().forEach((name, spec) -> parameters.add(Parameter.of(name, spec)));
    return parameters;
  }

  /// Bytes of a parameter in float32.
  private static long bytes(Parameter parameter) {
    return Arrays.stream(parameter.spec().shape()).reduce(Float.BYTES, Math::multiplyExact);
  }

  /// Refuses a model that its family's configuration, as it is written, does not say all of.
  private void requireWritable() {
    var again = ConfigReader.read(target.json());
    if (!again.decoder().equals(target.decoder())) {
      throw new InvalidInputException(
          "%s says what Sluice reads but does not write (%s), so the model cannot be converted"
              .formatted(
                  source.resolve(ModelConfig.FILE), String.join("; ", again.differences(target))));
    }
  }

  /// Looks at every tensor of the source, and says which the target has.
  private void plan() {
    Map<String, List<Part>> parts = new LinkedHashMap<>();
    Map<String, Set<ElementType>> types = new LinkedHashMap<>();
    Set<String> used = new HashSet<>();
    for (var parameter : parameters()) {
      advance("checking", parameter);
      var entry = reader.entry(parameter);
      var place = target.family().places(target, parameter).get(reader.form(parameter));
      parts.computeIfAbsent(place.tensor(), _ -> new ArrayList<>()).add(new Part(parameter, place));
      types.computeIfAbsent(place.tensor(), _ -> new TreeSet<>()).add(entry.type());
      used.add(entry.name());
    }
    reader.judgeTheRest();
    parts.forEach(
        (name, of) -> {
          var place = of.getFirst().place;
          long elements = of.stream().mapToLong(part -> bytes(part.parameter) / Float.BYTES).sum();
          if (elements != place.stored()) {
            throw new IllegalStateException(
                "%d numbers are there for %s of %s"
                    .formatted(elements, name, Arrays.toString(place.shape())));
          }
          var tensor =
              new StoredTensor(
                  name,
                  type(name, Objects.requireNonNull(types.get(name))),
                  Arrays.stream(place.shape()).boxed().toList());
          wholes.put(name, new Whole(tensor, of));
        });
    noteWhatIsDecided(used);
  }

  /// A tensor's type: the one that is wanted, else the one that all its parts have, else float32,
  /// which holds all of them.
  private ElementType type(String name, Set<ElementType> types) {
    if (wanted.type != null) {
      return wanted.type;
    }
    if (types.contains(ElementType.FLOAT64)) {
      throw new InvalidInputException(
          "%s is stored as F64, which Sluice rounds to float32 when it reads; pass --dtype float32 to have it so"
              .formatted(Listing.quoted(name)));
    }
    return types.size() == 1 ? types.iterator().next() : ElementType.FLOAT32;
  }

  private void noteWhatIsDecided(Set<String> used) {
    notes.addAll(config.notes());
    notes.addAll(files.notes());
    notes.addAll(reader.notes());
    var idle = files.names().stream().filter(name -> !used.contains(name)).toList();
    if (!idle.isEmpty()) {
      notes.add(
          "not written: %s, which are no part of the model of text or say again what the others do"
              .formatted(Listing.of(idle)));
    }
    var words = words(from());
    if (words.contains("float64")) {
      notes.add("numbers of F64 are rounded to float32 first, in which Sluice reads them");
    }
    if (wanted.type == null && words.size() > 1) {
      notes.add(
          "the weights are of several types (%s), and each tensor keeps its own; pass --dtype to have one"
              .formatted(String.join(", ", words)));
    }
    if (wanted.packing != null
        && wanted.packing != config.packing()
        && packing(config).isEmpty()
        && packing(target).isEmpty()) {
      notes.add(
          "no gate of this model can be packed, so gate_packing %s changes nothing"
              .formatted(wanted.packing.word()));
    }
    if (target.packing() == GatePacking.MEGATRON_QKV) {
      notes.add(
          "only Sluice reads %s; transformers would draw queries, keys and values at random instead"
              .formatted(Listing.quoted(GatePacking.QKV)));
    }
    String before = modelType(json());
    String now = modelType(target.json());
    if (!before.equals(now)) {
      notes.add(
          "model_type %s becomes %s, the model of text alone"
              .formatted(Printable.brief(before, 60), now));
    }
  }

  private ObjectNode json() {
    return JsonFile.object(source.resolve(ModelConfig.FILE), JsonFile.SMALL, "");
  }

  private static String modelType(ObjectNode json) {
    return json.path("model_type").asString("");
  }

  /// The word of the packing where it says something.
  private static String packing(ModelConfig model) {
    boolean packs = model.packedGate() != null || model.packing() == GatePacking.MEGATRON_QKV;
    boolean couldPack =
        model.decoder().layers().stream()
            .flatMap(layer -> layer.attention().stream())
            .anyMatch(attention -> Qwen3.paperGate(attention.gates()) != null);
    return packs || couldPack ? model.packing().word() : "";
  }

  /// Bytes by type.
  private static Map<ElementType, Long> byType(List<StoredTensor> tensors) {
    Map<ElementType, Long> bytes = new TreeMap<>();
    tensors.forEach(tensor -> bytes.merge(tensor.type(), tensor.bytes(), Long::sum));
    return bytes;
  }

  private static List<ElementType> types(List<StoredTensor> tensors) {
    return byType(tensors).entrySet().stream()
        .sorted(Map.Entry.<ElementType, Long>comparingByValue().reversed())
        .map(Map.Entry::getKey)
        .toList();
  }

  private static List<String> words(List<StoredTensor> tensors) {
    return types(tensors).stream().map(type -> type.name().toLowerCase(Locale.ROOT)).toList();
  }

  private List<StoredTensor> from() {
    return files.entries().stream().map(StoredTensor::of).toList();
  }

  private List<StoredTensor> to() {
    return wholes.values().stream().map(Whole::tensor).toList();
  }

  private static Side side(String modelType, ModelConfig model, List<StoredTensor> all, int files) {
    return new Side(
        modelType,
        packing(model),
        words(all),
        all.size(),
        all.stream().mapToLong(StoredTensor::bytes).sum(),
        files);
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

  private Result fill(Path directory, Path place) throws IOException {
    notes.addAll(noteLeftovers(place, place.resolveSibling(directory.getFileName())));
    var shards = shards();
    write(directory, shards);
    target.write(directory, types(to()).getFirst(), json());
    copyCompanions(directory);
    compareParameters(directory);
    Double[] differences = wanted.comparesLogits ? compareLogits(directory) : new Double[2];
    requireGoingOn("ending");
    return new Result(
        side(modelType(json()), config, from(), files.shards().size()),
        side(modelType(target.json()), target, to(), shards.size()),
        isRounded,
        differences[0],
        differences[1],
        notes.stream().map(Printable::line).toList());
  }

  /// As `huggingface_hub` splits them (`split_state_dict_into_shards_factory`): in order, each file
  /// as full as it may be, a tensor that is larger than a file in one of its own.
  private List<List<StoredTensor>> shards() {
    List<List<StoredTensor>> shards = new ArrayList<>();
    List<StoredTensor> shard = new ArrayList<>();
    long bytes = 0;
    for (var tensor : to()) {
      if (tensor.bytes() > wanted.shardBytes) {
        shards.add(List.of(tensor));
        continue;
      }
      if (bytes + tensor.bytes() > wanted.shardBytes) {
        shards.add(shard);
        shard = new ArrayList<>();
        bytes = 0;
      }
      shard.add(tensor);
      bytes += tensor.bytes();
    }
    if (!shard.isEmpty()) {
      shards.add(shard);
    }
    if (shards.size() > MOST_SHARDS) {
      throw new InvalidInputException(
          "shards of %d bytes would be %d files, more than the %d that can be open at once; ask for larger ones"
              .formatted(wanted.shardBytes, shards.size(), MOST_SHARDS));
    }
    return shards;
  }

  private void write(Path directory, List<List<StoredTensor>> shards) throws IOException {
    Map<String, String> shardOf = new TreeMap<>();
    for (int i = 0; i < shards.size(); i++) {
      String name =
          shards.size() == 1
              ? SafetensorsDirectory.SINGLE
              : String.format(Locale.ROOT, "model-%05d-of-%05d.safetensors", i + 1, shards.size());
      shards.get(i).forEach(tensor -> shardOf.put(tensor.name(), name));
      SafetensorsWriter.write(
          directory.resolve(name), Map.of("format", "pt"), shards.get(i), this::write);
    }
    if (shards.size() > 1) {
      SafetensorsDirectory.writeIndex(
          directory,
          parameters().stream().mapToLong(Conversion::bytes).sum() / Float.BYTES,
          to().stream().mapToLong(StoredTensor::bytes).sum(),
          shardOf);
    }
  }

  /// Makes one tensor of its parameters, each of which is read when it is its turn.
  private void write(StoredTensor tensor, SafetensorsWriter.Data out) throws IOException {
    try (var _ = Scope.open()) {
      var stored = uninitialized(tensor.type(), tensor.shape());
      for (var part : Objects.requireNonNull(wholes.get(tensor.name())).parts) {
        try (var _ = Scope.open()) {
          advance("writing", part.parameter);
          part.place.write(reader.read(part.parameter), stored);
        }
        reader.entry(part.parameter).data().unload();
      }
      long other = FiniteNumbers.firstOther(stored.memory(), tensor.type());
      if (other >= 0) {
        throw new InvalidInputException(
            "%s holds a number at %s that is too large for %s; pass another --dtype"
                .formatted(
                    Listing.quoted(tensor.name()),
                    StoredWeights.index(other, tensor.shape()),
                    tensor.type().name().toLowerCase(Locale.ROOT)));
      }
      out.write(stored.memory());
    }
  }

  private static Tensor uninitialized(ElementType type, List<Long> shape) {
    return Tensor.uninitialized(
        Tensor.zeros(type, 1), type, shape.stream().mapToLong(Long::longValue).toArray());
  }

  private void copyCompanions(Path directory) throws IOException {
    List<String> left = new ArrayList<>();
    for (Path file : Trees.children(source)) {
      String name = String.valueOf(file.getFileName());
      boolean isModel =
          name.equals(ModelConfig.FILE) || name.equals(SafetensorsDirectory.INDEX) || isShard(file);
      if (isModel) {
        continue;
      }
      if (!COMPANIONS.contains(name) || !Files.isRegularFile(file)) {
        left.add(name);
        continue;
      }
      long bytes = Files.size(file);
      if (bytes > LARGEST_COMPANION) {
        throw new InvalidInputException(
            "%s has %d bytes, more than the %d that such a file may have; take it away or fetch it again"
                .formatted(file, bytes, LARGEST_COMPANION));
      }
      Path copy = directory.resolve(name);
      try {
        Files.copy(file, copy);
      } catch (IOException e) {
        throw new IOException(
            "%s cannot be copied to %s (%s)".formatted(file, copy, Failures.words(e)), e);
      }
    }
    if (!left.isEmpty()) {
      notes.add("left behind in %s: %s".formatted(source, Listing.of(left)));
    }
  }

  private boolean isShard(Path file) {
    return files.shards().stream().anyMatch(shard -> shard.path().equals(file));
  }

  // ---------------------------------------------------------------- comparing

  /// Every parameter of the target, read back, is the source's, rounded: bit for bit.
  private void compareParameters(Path directory) {
    var written = ModelConfig.read(directory);
    if (!written.decoder().equals(target.decoder())) {
      throw new IllegalStateException(
          "the target's configuration reads as another model: " + target.differences(written));
    }
    try (var again = SafetensorsDirectory.open(directory)) {
      var weights = new WeightReader(directory, written, StoredWeights.of(again, written));
      for (var whole : wholes.values()) {
        for (var part : whole.parts) {
          try (var _ = Scope.open()) {
            advance("comparing", part.parameter);
            var expected = reader.read(part.parameter);
            isRounded |= round(expected.memory(), whole.tensor.type(), false);
            if (weights.read(part.parameter).memory().mismatch(expected.memory()) >= 0) {
              throw new IllegalStateException(
                  "%s was not written as it was read".formatted(part.parameter.name()));
            }
          }
          reader.entry(part.parameter).data().unload();
        }
      }
      weights.judgeTheRest();
    }
  }

  /// Rounds float32 numbers to a type, where they are, or as far to the other side; says whether
  /// one changed.
  private static boolean round(MemorySegment numbers, ElementType type, boolean mirrored) {
    if (type == ElementType.FLOAT32) {
      return false;
    }
    int block = 1 << 20;
    boolean changed = false;
    try (var _ = Scope.open()) {
      var narrow = uninitialized(type, List.of((long) block)).memory();
      var rounded = uninitialized(ElementType.FLOAT32, List.of((long) block)).memory();
      for (long begin = 0; begin < numbers.byteSize(); begin += 4L * block) {
        long count = Math.min(block, (numbers.byteSize() - begin) / 4);
        var part = numbers.asSlice(begin, 4 * count);
        var back = rounded.asSlice(0, 4 * count);
        Float32Rounding.copy(part, narrow.asSlice(0, type.bytes() * count), type);
        Float32Copy.copy(narrow.asSlice(0, type.bytes() * count), type, back);
        if (part.mismatch(back) >= 0) {
          changed = true;
          if (mirrored) {
            mirror(part, back);
          } else {
            part.copyFrom(back);
          }
        }
      }
    }
    return changed;
  }

  private static void mirror(MemorySegment numbers, MemorySegment rounded) {
    var layout = ValueLayout.JAVA_FLOAT;
    for (long i = 0; i < numbers.byteSize() / Float.BYTES; i++) {
      float number = numbers.getAtIndex(layout, i);
      numbers.setAtIndex(layout, i, number + (number - rounded.getAtIndex(layout, i)));
    }
  }

  /// The largest difference of the target's logits from the source's, and of those of the source
  /// with each number moved as far to the other side, where rounding moved one.
  private Double[] compareLogits(Path directory) {
    float[] ours;
    Double mirrored = null;
    try (var decoder = load(source)) {
      ours = logits(decoder);
      if (isRounded) {
        for (var whole : wholes.values()) {
          for (var part : whole.parts) {
            decoder
                .parameters()
                .weight(part.parameter.name())
                .write(numbers -> round(numbers, whole.tensor.type(), true));
          }
        }
        mirrored = largest(ours, logits(decoder));
      }
    }
    double difference;
    try (var decoder = load(directory)) {
      difference = largest(ours, logits(decoder));
    }
    if (!isRounded && difference != 0) {
      throw new IllegalStateException("the same weights gave logits that differ by " + difference);
    }
    return new Double[] {difference, mirrored};
  }

  private Decoder load(Path directory) {
    parameters().forEach(parameter -> advance("computing logits", parameter));
    return ModelDirectory.load(directory, Precision.FLOAT32, Device.CPU, false);
  }

  static float[] logits(Decoder decoder) {
    try (var _ = Scope.open()) {
      var model = decoder.config();
      int length = Math.min(TOKENS, model.maxPositionEmbeddings());
      long[] ids = new SplittableRandom(SEED).longs(length, 0, model.vocabSize()).toArray();
      return decoder
          .logits(decoder.hiddenStates(Tensor.of(ids, 1, length), null, Probe.NONE))
          .floats();
    }
  }

  /// The largest absolute difference; infinite where one is no number.
  private static double largest(float[] ours, float[] others) {
    double largest = 0;
    for (int i = 0; i < ours.length; i++) {
      double difference = Math.abs((double) ours[i] - others[i]);
      largest = Math.max(largest, Double.isNaN(difference) ? Double.POSITIVE_INFINITY : difference);
    }
    return largest;
  }
}
