package dev.sluice.training;

import dev.sluice.InvalidInputException;
import dev.sluice.decoder.DecoderConfig;
import dev.sluice.files.TomlFile;
import dev.sluice.files.WholeFile;
import dev.sluice.gate.Gate;
import dev.sluice.provenance.RunManifest;
import dev.sluice.settings.Setting;
import dev.sluice.settings.Setting.Heading;
import dev.sluice.settings.Settings;
import dev.sluice.tokenizer.Tokenizer;
import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import org.jspecify.annotations.Nullable;
import tools.jackson.databind.node.JsonNodeFactory;
import tools.jackson.databind.node.ObjectNode;
import tools.jackson.dataformat.toml.TomlMapper;

/// Everything that decides a training run: what `config.toml` holds and what the flags of `sluice
/// train` set, by concern. Files and flags know the settings alone, in the order in which they
/// stand here.
public record RunConfig(
    @Heading("Text") TextSettings text,
    @Heading("Model") ShapeSettings shape,
    PositionSettings positions,
    VariationSettings variation,
    @Heading("Starting from a checkpoint") StartSettings start,
    @Heading("Computing") ComputingSettings computing,
    @Heading("Training") BatchSettings batch,
    OptimizationSettings optimization,
    GuardSettings guard,
    @Setting(initial = "1", help = "Of weights and data order.") long seed,
    @Heading("Measuring, saving and sampling") EvaluationSettings evaluation,
    CheckpointSettings checkpoints,
    SampleSettings samples) {
  /// The file's name in a run directory.
  public static final String FILE = "config.toml";

  private static final Settings<RunConfig> SETTINGS = Settings.of(RunConfig.class);

  /// What holds where neither file nor flag says otherwise.
  public static final RunConfig DEFAULTS = SETTINGS.initial();

  /// How every setting was declared, in order.
  public static List<Settings.Declared> declared() {
    return SETTINGS.declared();
  }

  // ---------------------------------------------------------------- from text

  /// The configuration of a TOML file and flags: flags win over the file, the file over the
  /// defaults.
  ///
  /// @param file read when not null
  /// @param flags setting names, such as `batch_size`, and their values as text
  public static RunConfig from(@Nullable Path file, Map<String, String> flags) {
    return DEFAULTS.with(file, flags);
  }

  /// This configuration with the settings of a TOML file and of flags.
  public RunConfig with(@Nullable Path file, Map<String, String> flags) {
    var read = file == null ? JsonNodeFactory.instance.objectNode() : TomlFile.read(file);
    return with(read, file, flags);
  }

  /// This configuration with settings that were read from a file and with those of flags.
  ///
  /// @param file where they were read, for error messages; null where there was none
  public RunConfig with(ObjectNode read, @Nullable Path file, Map<String, String> flags) {
    return SETTINGS.with(this, read, file, flags);
  }

  /// The configuration that a run's manifest records, by what this version knows of it.
  static RunConfig of(RunManifest manifest) {
    Map<String, String> known = new LinkedHashMap<>();
    for (var setting : declared()) {
      var value = manifest.config().get(setting.name());
      if (value != null) {
        known.put(setting.name(), value.toString());
      }
    }
    return from(null, known);
  }

  /// The same; empty where this version refuses what an earlier one accepted.
  static Optional<RunConfig> accepted(RunManifest manifest) {
    try {
      return Optional.of(of(manifest));
    } catch (InvalidInputException _) {
      return Optional.empty();
    }
  }

  /// Every setting by its name in files, in order.
  public Map<String, Object> settings() {
    return SETTINGS.values(this);
  }

  /// Writes `config.toml` into a directory.
  public void write(Path directory) throws IOException {
    WholeFile.write(
        directory.resolve(FILE), TomlMapper.builder().build().writeValueAsString(settings()));
  }

  // ---------------------------------------------------------------- what it means

  /// The gates.
  public List<Gate> gates() {
    return start.isGiven() ? StartCheckpoint.of(this).gates() : variation.gates(shape.model());
  }

  /// The gates' names joined by `+`, or `none`.
  public String gateNames() {
    try {
      return Gate.names(gates());
    } catch (InvalidInputException e) {
      if (start.isGiven()) { // the checkpoint is gone, and this is only what a page calls the run
        return variation.gate();
      }
      throw e;
    }
  }

  /// The model for a vocabulary of that size; that of the checkpoint where the training begins with
  /// one.
  public DecoderConfig decoder(int vocabSize) {
    if (start.isGiven()) {
      return StartCheckpoint.of(this).decoder();
    }
    int length = batch.sequenceLength();
    return variation.of(positions.change(shape.decoder(vocabSize, length), length), gates());
  }

  /// V: the tokenizer's vocabulary, or what is set or the checkpoint has, which cannot be smaller.
  int vocabulary(Tokenizer tokenizer) {
    return start.isGiven()
        ? StartCheckpoint.of(this).vocabulary(tokenizer)
        : shape.vocabulary(tokenizer);
  }

  /// Where the tokenizer is, as [dev.sluice.tokenizer.Tokenizers#load] takes it.
  String tokenizer() {
    return start.isGiven() ? StartCheckpoint.of(this).tokenizer() : text.tokenizer();
  }

  /// The same with the checkpoint that it begins with named by its whole path, a run by its newest
  /// checkpoint: a run goes on from anywhere, and with the checkpoint that it began with.
  public RunConfig pinned() {
    return start.isGiven()
        ? with(null, Map.of("start", StartCheckpoint.pinned(start.start())))
        : this;
  }

  /// The same with its text found from anywhere too: a model that is trained on it goes on with it.
  public RunConfig pinnedWithData() {
    return pinned().with(null, Map.of("data", text.pinnedData()));
  }

  /// What settings do beside what their names say: nothing is changed without a word.
  public List<String> notes() {
    List<String> notes = new ArrayList<>(optimization.notes());
    notes.addAll(start.notes());
    notes.addAll(start.isGiven() ? StartCheckpoint.of(this).notes() : shape.notes());
    return List.copyOf(notes);
  }
}
