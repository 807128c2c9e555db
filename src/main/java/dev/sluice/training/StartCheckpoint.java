package dev.sluice.training;

import dev.sluice.InvalidInputException;
import dev.sluice.Printable;
import dev.sluice.attention.RopeScaling;
import dev.sluice.attention.Rotary;
import dev.sluice.checkpoint.CheckpointDirectory;
import dev.sluice.checkpoint.ModelConfig;
import dev.sluice.checkpoint.ModelDirectory;
import dev.sluice.corpus.CorpusSummary;
import dev.sluice.decoder.Decoder;
import dev.sluice.decoder.DecoderConfig;
import dev.sluice.decoder.LayerConfig;
import dev.sluice.files.Failures;
import dev.sluice.files.Sha256;
import dev.sluice.files.Trees;
import dev.sluice.gate.Gate;
import dev.sluice.gguf.GgufFile;
import dev.sluice.operations.Precision;
import dev.sluice.probe.Probe;
import dev.sluice.provenance.RunManifest;
import dev.sluice.settings.Settings;
import dev.sluice.tensor.Device;
import dev.sluice.tensor.Scope;
import dev.sluice.tensor.Tensor;
import dev.sluice.tokenizer.Tokenizer;
import dev.sluice.tokenizer.Tokenizers;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.InvalidPathException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Optional;
import java.util.Set;
import java.util.function.ToIntFunction;
import java.util.stream.Stream;
import org.jspecify.annotations.Nullable;

/// The checkpoint that a training begins with: its shape, what the run's settings add to it, and
/// its weights.
///
/// The model that is trained differs from the checkpoint's in what [#decoder] lists and in nothing
/// else: what a setting says of the shape is either the same or refused.
public final class StartCheckpoint {
  /// What `manifest.json` calls the checksum of the weights.
  static final String CHECKSUM = "start_weights_sha256";

  private static final String TOKENIZER = "tokenizer.json";

  /// The gate that means the checkpoint's own.
  private static final String OWN = "model";

  /// Settings of the shape and the variations that a checkpoint does not decide.
  private static final Set<String> FREE = Set.of("gate");

  private final Path directory;
  private final RunConfig config;
  private final DecoderConfig parent;

  private StartCheckpoint(Path directory, RunConfig config, DecoderConfig parent) {
    this.directory = directory;
    this.config = config;
    this.parent = parent;
  }

  /// The one that a run begins with.
  ///
  /// @throws InvalidInputException if it is not there
  public static StartCheckpoint of(RunConfig config) {
    Path directory = Path.of(config.start().start());
    if (!Files.isRegularFile(directory.resolve(ModelConfig.FILE))) {
      throw new InvalidInputException(
          "start %s holds no %s, and a run that began with a checkpoint needs it; put it back or name a checkpoint"
              .formatted(directory, ModelConfig.FILE));
    }
    return new StartCheckpoint(directory, config, ModelConfig.read(directory).decoder());
  }

  /// The checkpoint that a user names, by its whole path: a run stands for its newest checkpoint of
  /// now, and the path does not depend on the working directory.
  ///
  /// @throws InvalidInputException if there is none
  static String pinned(String named) {
    Path path;
    try {
      path = Path.of(named).toAbsolutePath().normalize();
    } catch (InvalidPathException e) {
      throw new InvalidInputException(
          "start '%s' is no path; name a checkpoint".formatted(Printable.brief(named, 100)), e);
    }
    if (Files.isRegularFile(path.resolve(ModelConfig.FILE))) {
      return path.toString();
    }
    if (Files.isRegularFile(path.resolve(RunConfig.FILE))) {
      return CheckpointDirectory.latest(path.resolve(TrainingRun.CHECKPOINTS))
          .map(Path::toString)
          .orElseThrow(
              () ->
                  new InvalidInputException(
                      "start %s is a run without a complete checkpoint; train it on, or name another"
                          .formatted(named)));
    }
    if (named.endsWith(GgufFile.SUFFIX)) {
      throw new InvalidInputException(
          "start %s is a file of llama.cpp, which a training does not begin with; make it a directory first with ./sluice convert %s DIRECTORY"
              .formatted(named, named));
    }
    throw new InvalidInputException(
        "start %s holds neither %s (a checkpoint) nor %s (a run); name a directory that does"
            .formatted(named, ModelConfig.FILE, RunConfig.FILE));
  }

  // ---------------------------------------------------------------- shape

  /// The model that the checkpoint holds.
  public DecoderConfig parent() {
    return parent;
  }

  /// The context that the checkpoint was trained with, in tokens: that from which its frequencies
  /// are stretched already, else the length of its training's sequences where its manifest tells
  /// it, else all of its context.
  public int trainedContext() {
    var scaling =
        parent
            .firstAttention()
            .flatMap(attention -> attention.positions().rotary())
            .map(Rotary::scaling)
            .orElse(new RopeScaling.None());
    int declared = scaling.trained(parent.maxPositionEmbeddings());
    return scaling.original().isPresent()
        ? declared
        : RunManifest.beside(directory)
            .map(manifest -> manifest.config().get("sequence_length"))
            .filter(length -> length instanceof Integer trained && trained > 1)
            .map(length -> Math.min((Integer) length, declared))
            .orElse(declared);
  }

  /// The context that the checkpoint's model has, in tokens: what its frequencies are stretched to,
  /// else what it was trained with.
  public int context() {
    boolean isStretched =
        parent
            .firstAttention()
            .flatMap(attention -> attention.positions().rotary())
            .filter(rotary -> !rotary.scaling().equals(new RopeScaling.None()))
            .isPresent();
    return isStretched ? parent.context() : trainedContext();
  }

  /// The model with the positions that the settings ask for, for sequences of at least so many
  /// tokens.
  public DecoderConfig positioned(int tokens) {
    return config.positions().change(parent, trainedContext(), tokens);
  }

  /// The model that is trained: the checkpoint's, with gates where the settings name some that it
  /// has not.
  ///
  /// @throws InvalidInputException if a setting contradicts the checkpoint
  public DecoderConfig decoder() {
    requireNoContradiction();
    var positioned = positioned(config.batch().sequenceLength());
    requireLength(positioned);
    boolean same = config.variation().gate().equals(OWN);
    var changed = same ? positioned : positioned.with(gates());
    if (config.start().isAlwaysFrozen() && added(changed).isEmpty()) {
      throw new InvalidInputException(
          "frozen_steps -1 lets only new parameters move, and the model has none beside the"
              + " checkpoint's; add a gate or leave it out");
    }
    return changed;
  }

  /// The gates of the first layer with attention; of all, where they are not the checkpoint's own.
  public List<Gate> gates() {
    var own =
        parent.layers().stream()
            .flatMap(layer -> layer.attention().stream())
            .map(attention -> attention.gates())
            .distinct()
            .toList();
    if (own.isEmpty()) {
      throw new InvalidInputException(
          "start %s has no layer with attention, so it has no place for gates and no sinks; choose another checkpoint"
              .formatted(directory));
    }
    String named = config.variation().gate();
    if (named.equals(OWN)) {
      return own.getFirst();
    }
    var wanted = config.variation().gates(config.shape().model());
    boolean isBare = own.equals(List.of(List.of()));
    if (!isBare && !own.equals(List.of(wanted))) {
      throw new InvalidInputException(
          "gate %s contradicts start %s, which has the gates %s; leave gate out"
              .formatted(
                  named, directory, String.join(" and ", own.stream().map(Gate::names).toList())));
    }
    return isBare ? wanted.stream().map(this::added).toList() : wanted;
  }

  private Gate added(Gate named) {
    if (!config.start().identityStart()) {
      return named;
    }
    var gate = named.asAdded();
    if (!gate.beginsAsIdentity()) {
      throw new InvalidInputException(
          "the gate %s does not begin as if it were not there, so it would break the model that start names; use one that does, such as %s, or take it as it is with identity_start = false"
              .formatted(named.name(), Gate.SDPA_ELEMENTWISE.asAdded().name()));
    }
    return gate;
  }

  /// Names of the parameters that the checkpoint has not.
  public Set<String> added(DecoderConfig changed) {
    Set<String> added = new LinkedHashSet<>(changed.parameters().keySet());
    added.removeAll(parent.parameters().keySet());
    return added;
  }

  private void requireNoContradiction() {
    var own = sizes();
    var first = RunConfig.DEFAULTS.settings();
    var given = config.settings();
    Stream.of(ShapeSettings.class, VariationSettings.class)
        .flatMap(record -> Settings.of(record).declared().stream())
        .map(Settings.Declared::name)
        .filter(name -> !FREE.contains(name))
        .forEach(
            name -> {
              var value = Objects.requireNonNull(given.get(name));
              var has = own.get(name);
              if (!value.equals(first.get(name)) && !value.equals(has)) {
                throw new InvalidInputException(
                    "%s %s contradicts start %s, which %s; leave %s out"
                        .formatted(
                            name,
                            Printable.brief(value, 60),
                            directory,
                            has == null ? "decides that itself" : "has " + has,
                            name));
              }
            });
  }

  /// The checkpoint's own values of settings; −1 where its layers differ.
  private Map<String, Object> sizes() {
    Map<String, Object> sizes = new HashMap<>();
    sizes.put("vocab_size", parent.vocabSize());
    sizes.put("hidden_size", parent.hiddenSize());
    sizes.put("layers", parent.layers().size());
    sizes.put("tie_word_embeddings", parent.tieWordEmbeddings());
    sizes.put("intermediate_size", common(layer -> layer.feedForward().intermediateSize()));
    sizes.put("experts", common(layer -> Math.max(1, layer.feedForward().experts().count())));
    sizes.put("experts_per_token", common(layer -> layer.feedForward().experts().perToken()));
    parent
        .firstAttention()
        .ifPresent(
            attention -> {
              sizes.put("attention_heads", attention.attentionHeads());
              sizes.put("key_value_heads", attention.keyValueHeads());
              sizes.put("head_dim", attention.headDim());
              sizes.put("qk_norm", attention.qkNorm());
            });
    return sizes;
  }

  private int common(ToIntFunction<LayerConfig> of) {
    var all = parent.layers().stream().mapToInt(of).distinct().toArray();
    return all.length == 1 ? all[0] : -1;
  }

  private void requireLength(DecoderConfig positioned) {
    int length = config.batch().sequenceLength();
    if (length > positioned.context()) {
      throw new InvalidInputException(
          "sequence_length %d is more than the context of start %s, %d tokens; use at most that, or extend it with rope_theta, rope_scaling or context"
              .formatted(length, directory, positioned.context()));
    }
  }

  /// What the model is, in sentences.
  List<String> notes() {
    var attention = parent.firstAttention().orElseThrow();
    List<String> notes = new ArrayList<>();
    notes.add(
        "The model is that of %s: %d layers of width %d, %d query and %d key/value heads of %d, vocabulary %d."
            .formatted(
                directory,
                parent.layers().size(),
                parent.hiddenSize(),
                attention.attentionHeads(),
                attention.keyValueHeads(),
                attention.headDim(),
                parent.vocabSize()));
    if (config.positions().isGiven()) {
      var changed = positioned(config.batch().sequenceLength());
      notes.add(
          "Its positions change: %s, instead of %s."
              .formatted(positions(changed), positions(parent)));
    }
    var gates = gates();
    if (!gates.equals(attention.gates())) {
      notes.add(
          "Added to every layer with attention: %s, %s."
              .formatted(
                  Gate.names(gates),
                  gates.stream().allMatch(Gate::beginsAsIdentity)
                      ? "which begins as if it were not there"
                      : "which changes the model's answers from the start"));
    }
    int frozen = config.start().frozenSteps();
    if (config.start().isAlwaysFrozen()) {
      notes.add("All that the checkpoint holds stays as it is.");
    } else if (frozen > 0 && added(decoder()).isEmpty()) {
      notes.add(
          "With gate %s the model has no new parameters, so nothing moves in the first %d steps (frozen_steps)."
              .formatted(config.variation().gate(), frozen));
    }
    return notes;
  }

  /// `rope_theta 10000, no scaling, a context of 512 tokens`.
  private static String positions(DecoderConfig model) {
    var rotary = model.firstAttention().orElseThrow().positions().rotary().orElseThrow();
    return "%s, a context of %d tokens".formatted(rotary.words(), model.context());
  }

  // ---------------------------------------------------------------- tokenizer

  /// Where the run's tokenizer is, as [Tokenizers#load] takes it: the checkpoint's own, unless the
  /// settings name one.
  String tokenizer() {
    String named = config.text().tokenizer();
    if (!named.equals(RunConfig.DEFAULTS.text().tokenizer())) {
      return named;
    }
    if (Files.isRegularFile(directory.resolve(TOKENIZER))) {
      return directory.toString();
    }
    if (parent.vocabSize() == Tokenizers.load(named).vocabularySize()) {
      return named;
    }
    throw new InvalidInputException(
        "start %s has no %s and a vocabulary of %d, which is not that of bytes; name its tokenizer as tokenizer"
            .formatted(directory, TOKENIZER, parent.vocabSize()));
  }

  /// V of the model.
  ///
  /// @throws InvalidInputException if the tokenizer is another than the checkpoint's
  int vocabulary(Tokenizer tokenizer) {
    if (tokenizer.vocabularySize() > parent.vocabSize()) {
      throw new InvalidInputException(
          "the tokenizer has %d tokens and the vocabulary of start %s %d; choose the checkpoint's own tokenizer"
              .formatted(tokenizer.vocabularySize(), directory, parent.vocabSize()));
    }
    return parent.vocabSize();
  }

  /// Refuses another tokenizer than the one beside the checkpoint, where there is one.
  void requireTokenizer(Tokenizer tokenizer) {
    Path own = directory.resolve(TOKENIZER);
    try {
      if (Files.isRegularFile(own)
          && !tokenizer.fingerprint().startsWith(Sha256.hex(own))
          && !tokenizer
              .fingerprint()
              .equals(
                  Tokenizers.load(directory.toString(), config.text().eosToken()).fingerprint())) {
        throw new InvalidInputException(
            "the tokenizer %s is not that of start %s, whose weights know its own tokens; leave tokenizer out"
                .formatted(tokenizer.describe(), directory));
      }
    } catch (IOException e) {
      throw unreadable(own, e);
    }
  }

  // ---------------------------------------------------------------- text

  /// That the checkpoint's training held out another share of the same text, if it did.
  Optional<String> heldOutNote(CorpusSummary now) {
    return RunManifest.beside(directory)
        .filter(trained -> trained.dataFingerprint().equals(now.dataFingerprint()))
        .map(trained -> trained.config().get("held_out_share"))
        .filter(share -> share instanceof Double before && before != now.heldOutShare())
        .map(
            share ->
                "The model of %s was trained on this text with held_out_share %s, and now it is %s: text that is held out now may be what the model has learned, so what is measured on it looks better than it is; use %s."
                    .formatted(directory, share, now.heldOutShare(), share));
  }

  // ---------------------------------------------------------------- weights

  /// The model that is trained, with the checkpoint's weights and new ones beside.
  public Decoder begin(Precision precision, Device device) {
    try (var opened = ModelDirectory.load(directory, precision, device, false)) {
      return Decoder.initialize(
          decoder(), precision, device, config.seed(), opened.parameters().all());
    }
  }

  /// The checkpoint's model, which does not learn.
  public Decoder parentDecoder(Precision precision, Device device) {
    return ModelDirectory.load(directory, precision, device, false);
  }

  /// The largest difference of a logit between the checkpoint's model and the one that is trained
  /// before its first step, on the same tokens.
  ///
  /// @param ids tokens of one sequence
  public double differenceAtStart(Precision precision, Device device, long[] ids) {
    try (var decoder = begin(precision, device);
        var before = parentDecoder(precision, device)) {
      return difference(decoder, before, ids);
    }
  }

  /// The largest difference of a logit between two models.
  public static double difference(Decoder decoder, Decoder parent, long[] ids) {
    try (var _ = Scope.withoutGradient()) {
      var tokens = Tensor.of(ids, 1, ids.length).to(decoder.device());
      var probe = Probe.NONE;
      var now = decoder.logits(decoder.hiddenStates(tokens, null, probe));
      var before = parent.logits(parent.hiddenStates(tokens, null, probe));
      return now.minus(before).absolute().max().item();
    }
  }

  /// The checksum of the weights that a run began with, as its manifest has it; empty where there
  /// is none, or the run began with new weights.
  ///
  /// @param run its directory
  public static Optional<String> checksumOf(Path run) {
    return RunManifest.beside(run)
        .map(manifest -> manifest.config().get(CHECKSUM))
        .map(String::valueOf);
  }

  /// SHA-256 over the names and contents of the files that hold the weights.
  public String checksum() {
    var digest = Sha256.digest();
    Path last = directory;
    try {
      var files =
          Trees.children(directory).stream()
              .filter(file -> isWeights(file.getFileName()))
              .sorted()
              .toList();
      for (Path file : files) {
        last = file;
        Sha256.update(digest, String.valueOf(file.getFileName()));
        Sha256.update(digest, file);
      }
      return Sha256.hex(digest);
    } catch (IOException e) {
      throw unreadable(last, e);
    }
  }

  /// Whether a file of a checkpoint's directory holds weights or says where they are: not the state
  /// of an optimizer.
  public static boolean isWeights(@Nullable Path file) {
    String name = String.valueOf(file);
    return name.endsWith(".safetensors.index.json")
        || (name.endsWith(".safetensors") && !name.equals(TrainingCheckpoint.OPTIMIZER));
  }

  /// Refuses to go on with other weights than a run began with.
  ///
  /// @param recorded its manifest's
  void requireSame(@Nullable Object recorded) {
    if (recorded != null && !recorded.equals(checksum())) {
      throw new InvalidInputException(
          "the weights of start %s changed since the run began with them; restore them or start a new run"
              .formatted(directory));
    }
  }

  private static InvalidInputException unreadable(Path file, IOException e) {
    return new InvalidInputException(
        "%s cannot be read (%s); check its permissions".formatted(file, Failures.words(e)), e);
  }
}
