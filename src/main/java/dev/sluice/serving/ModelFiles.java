package dev.sluice.serving;

import dev.sluice.InvalidInputException;
import dev.sluice.Printable;
import dev.sluice.chat.ChatFormat;
import dev.sluice.checkpoint.GgufModel;
import dev.sluice.checkpoint.ModelConfig;
import dev.sluice.corpus.WindowRule;
import dev.sluice.files.JsonFile;
import dev.sluice.generation.Choice;
import dev.sluice.gguf.GgufFile;
import dev.sluice.provenance.RunManifest;
import dev.sluice.template.ChatTemplates;
import dev.sluice.tokenizer.GgufTokenizer;
import dev.sluice.tokenizer.Tokenizer;
import dev.sluice.tokenizer.Tokenizers;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.HashSet;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.function.Consumer;
import java.util.stream.IntStream;
import org.jspecify.annotations.Nullable;
import tools.jackson.databind.JsonNode;

/// What the files of a model say beside its weights: its tokenizer, what ends a text, how
/// conversations are written. For one thread at a time.
public final class ModelFiles {
  private static final String TOKENIZER = "tokenizer.json";
  private static final String CHECKPOINTS = "checkpoints";

  private final Path checkpoint;
  private final Consumer<String> notes;
  private @Nullable Integer vocabulary; // once read
  private @Nullable Set<Integer> endings; // of a GGUF file, once read

  /// @param checkpoint a directory with `config.json`, or a GGUF file
  /// @param notes hears sentences for whoever uses the model: what was not used, or decided between
  public ModelFiles(Path checkpoint, Consumer<String> notes) {
    this.checkpoint = checkpoint;
    this.notes = notes;
  }

  /// Finds them.
  ///
  /// @param named a directory with `config.json`, a GGUF file, or a directory that holds one
  public static ModelFiles at(Path named, Consumer<String> notes) {
    Path gguf = GgufModel.at(named);
    if (gguf != null) {
      return new ModelFiles(gguf, notes);
    }
    if (!Files.isRegularFile(named.resolve(ModelConfig.FILE))) {
      throw new InvalidInputException(
          "%s is neither a directory with a %s nor a .gguf file; name a checkpoint that is one, of a run one of its %s"
              .formatted(named, ModelConfig.FILE, CHECKPOINTS));
    }
    return new ModelFiles(named, notes);
  }

  private boolean isGguf() {
    return !Files.isDirectory(checkpoint);
  }

  /// The directory with `config.json`, or the GGUF file.
  public Path checkpoint() {
    return checkpoint;
  }

  private int vocabulary() {
    Integer known = vocabulary;
    if (known == null) {
      known = ModelConfig.read(checkpoint).decoder().vocabSize();
      vocabulary = known;
    }
    return known;
  }

  /// Reads of an open file what is asked for later, as opening it takes time.
  private void readBeside(GgufFile file) {
    vocabulary = GgufModel.config(file).decoder().vocabSize();
    endings = GgufTokenizer.endings(file);
  }

  private Set<Integer> ggufEndings() {
    var known = endings;
    if (known == null) {
      try (var file = GgufFile.open(checkpoint)) {
        known = GgufTokenizer.endings(file);
      }
      endings = known;
    }
    return known;
  }

  /// The name of the directory or file, without the suffix of GGUF files.
  public String name() {
    String name = String.valueOf(checkpoint.toAbsolutePath().normalize().getFileName());
    return isGguf() ? name.substring(0, name.length() - GgufFile.SUFFIX.length()) : name;
  }

  /// The settings of the training that made the model, where it was Sluice's: those of the manifest
  /// beside the weights, else of the run that the checkpoint belongs to. None for other models.
  private Map<String, Object> trainedWith() {
    var beside = RunManifest.beside(checkpoint);
    Path checkpoints = checkpoint.toAbsolutePath().normalize().getParent();
    if (beside.isEmpty() && checkpoints != null && checkpoints.endsWith(CHECKPOINTS)) {
      beside = RunManifest.beside(checkpoints.resolveSibling(""));
    }
    return beside.map(RunManifest::config).orElse(Map.of());
  }

  /// How the sequences began that the model was trained on; empty where it was not Sluice that
  /// trained it.
  public Optional<WindowRule> windowRule() {
    var settings = trainedWith();
    Object windows = settings.get("windows");
    return windows == null && !settings.containsKey("sequence_length")
        ? Optional.empty()
        : Optional.of(windows == null ? WindowRule.STREAM : WindowRule.parse(windows.toString()));
  }

  /// The ids of a text that a model is to continue: as the sequences began that it was trained on
  /// where that is known, else as its tokenizer's own template begins texts, unless this one begins
  /// so by itself.
  public static int[] prompt(Optional<WindowRule> rule, String text, Tokenizer tokenizer) {
    int[] before = rule.isPresent() ? new int[0] : tokenizer.beforeTexts();
    if (before.length == 0) {
      return rule.orElse(WindowRule.STREAM).prompt(text, tokenizer);
    }
    int[] ids = tokenizer.encode(text);
    return ids.length > 0 && ids[0] == before[0]
        ? ids
        : IntStream.concat(Arrays.stream(before), Arrays.stream(ids)).toArray();
  }

  /// The tokenizer: the one that the user gave, else the checkpoint's, else bytes where they fit.
  ///
  /// @param eosToken that ends documents; null for the one that the tokenizer's files name
  public Tokenizer tokenizer(@Nullable String given, @Nullable String eosToken) {
    return tokenizer(given, eosToken, "bytes".equals(trainedWith().get("tokenizer")));
  }

  /// @param trainedOnBytes whether the model was, where its directory holds no tokenizer
  public Tokenizer tokenizer(
      @Nullable String given, @Nullable String eosToken, boolean trainedOnBytes) {
    var tokenizer =
        given != null ? Tokenizers.load(given, eosToken) : own(eosToken, trainedOnBytes);
    int vocabulary = vocabulary();
    if (tokenizer.vocabularySize() > vocabulary) {
      throw new InvalidInputException(
          "the tokenizer %s has more tokens than the model's vocabulary of %d; pass the model's own with --tokenizer"
              .formatted(tokenizer.describe(), vocabulary));
    }
    return tokenizer;
  }

  private Tokenizer own(@Nullable String eosToken, boolean trainedOnBytes) {
    if (isGguf()) {
      Path beside = checkpoint.resolveSibling(TOKENIZER);
      if (Files.exists(beside)) {
        notes.accept(
            "%s is used, and not the tokenizer within %s."
                .formatted(beside, checkpoint.getFileName()));
        return Tokenizers.load(beside.toString(), eosToken);
      }
      try (var file = GgufFile.open(checkpoint)) {
        return Tokenizers.load(file, eosToken, () -> readBeside(file));
      }
    }
    if (Files.isRegularFile(checkpoint.resolve(TOKENIZER))) {
      return Tokenizers.load(checkpoint.toString(), eosToken);
    }
    int vocabulary = vocabulary();
    if (trainedOnBytes || vocabulary == 256) {
      return Tokenizers.load("bytes", eosToken);
    }
    throw new InvalidInputException(
        "%s holds no %s and its vocabulary of %d is not that of bytes; pass --tokenizer FILE"
            .formatted(checkpoint, TOKENIZER, vocabulary));
  }

  /// The tokens that end a text: those that the checkpoint names, else the tokenizer's; none where
  /// neither says which.
  public Set<Integer> stopIds(Tokenizer tokenizer) {
    int vocabulary = vocabulary();
    if (isGguf()) {
      Set<Integer> ids = new LinkedHashSet<>(ggufEndings());
      ids.removeIf(id -> id >= vocabulary);
      return ids.isEmpty() && tokenizer.knowsEndOfText() ? Set.of(tokenizer.endOfText()) : ids;
    }
    for (String name : new String[] {SuggestedSampling.FILE, ModelConfig.FILE}) {
      Set<Integer> ids = endings(checkpoint.resolve(name), vocabulary);
      if (!ids.isEmpty()) {
        return ids;
      }
    }
    return tokenizer.knowsEndOfText() ? Set.of(tokenizer.endOfText()) : Set.of();
  }

  private Set<Integer> endings(Path file, int vocabulary) {
    Set<Integer> ids = new LinkedHashSet<>();
    if (!Files.exists(file)) {
      return ids;
    }
    var value =
        JsonFile.object(file, JsonFile.SMALL, "fetch it again or remove it").path("eos_token_id");
    if (value.isMissingNode() || value.isNull()) {
      return ids;
    }
    for (JsonNode id : value.isArray() ? value : List.of(value)) {
      if (!id.isInt()) {
        throw new InvalidInputException(
            "%s: eos_token_id must be a token's number or a list of them, not %s; correct it or remove it"
                .formatted(file, Printable.brief(value, 60)));
      }
      if (id.asInt() >= 0 && id.asInt() < vocabulary) {
        ids.add(id.asInt());
      } else {
        notes.accept(
            "%s: eos_token_id %d is outside the model's vocabulary of %d, so it ends no text."
                .formatted(file, id.asInt(), vocabulary));
      }
    }
    return ids;
  }

  /// The templates that conversations are written with.
  ///
  /// @param given a file in the place of the model's own; null for those
  /// @return null where there are none
  public @Nullable ChatTemplates chatTemplates(@Nullable Path given) {
    var own = ownTemplates();
    return given == null ? own : ChatTemplates.ofFile(given, own == null ? Map.of() : own.tokens());
  }

  private @Nullable ChatTemplates ownTemplates() {
    if (isGguf()) {
      try (var file = GgufFile.open(checkpoint)) {
        return GgufTokenizer.chatTemplates(checkpoint, file);
      }
    }
    return ChatTemplates.find(checkpoint);
  }

  /// The tokens that end a text, and the one that the template ends turns with.
  public Set<Integer> turnEnds(Set<Integer> stopIds, Tokenizer tokenizer, ChatTemplates templates) {
    var ids = new HashSet<>(stopIds);
    String end = templates.tokens().get("eos_token");
    Integer id = end == null ? null : tokenizer.controlTokens().get(end);
    if (id != null && id < vocabulary()) {
      ids.add(id);
    }
    return ids;
  }

  /// All of it, for whoever writes with the model.
  ///
  /// @param version of what runs it
  /// @param templates null where it has none
  /// @param choice how tokens are chosen where nobody says
  public ServedModel served(
      String name,
      String version,
      Tokenizer tokenizer,
      @Nullable ChatTemplates templates,
      Optional<WindowRule> rule,
      Set<Integer> stopIds,
      Choice choice) {
    return new ServedModel(
        name,
        version,
        tokenizer,
        templates == null ? null : new ChatFormat(templates, tokenizer),
        text -> prompt(rule, text, tokenizer),
        stopIds,
        templates == null ? stopIds : turnEnds(stopIds, tokenizer, templates),
        choice,
        FilesInPlace.of(checkpoint));
  }
}
