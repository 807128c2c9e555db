package dev.sluice.serving;

import dev.sluice.InvalidInputException;
import dev.sluice.Printable;
import dev.sluice.files.JsonFile;
import dev.sluice.generation.Choice;
import dev.sluice.generation.LogitAdjustments;
import dev.sluice.generation.Sampler;
import dev.sluice.gguf.GgufFile;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Collection;
import java.util.List;
import java.util.Map;
import java.util.Set;
import org.jspecify.annotations.Nullable;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.node.ObjectNode;

/// How tokens are chosen where the user says nothing.
///
/// @param by whose suggestion it is, for people
/// @param notes what its makers suggest besides, and nobody follows, in sentences for the user
public record SuggestedSampling(
    String by,
    double temperature,
    int topK,
    double topP,
    double minP,
    double repetition,
    List<String> notes) {
  public SuggestedSampling {
    notes = List.copyOf(notes);
  }

  /// The file in which a model's makers suggest it.
  static final String FILE = "generation_config.json";

  private static final String WAY_OUT = "correct it or remove it";

  /// Always the likeliest token.
  public static final SuggestedSampling GREEDY =
      new SuggestedSampling("", 0, 0, 1, 0, 1, List.of());

  private static final SuggestedSampling OF_CHATS =
      ofChats("no file of the model says how", List.of());

  /// What is read of [#FILE], here or elsewhere.
  private static final Set<String> FOLLOWED =
      Set.of(
          "do_sample",
          "temperature",
          "top_k",
          "top_p",
          "min_p",
          "repetition_penalty",
          "bos_token_id",
          "eos_token_id",
          "pad_token_id");

  /// What says nothing of which token comes.
  private static final Set<String> WITHOUT_EFFECT =
      Set.of(
          "_from_model_config",
          "transformers_version",
          "use_cache",
          "cache_implementation",
          "max_length",
          "max_new_tokens",
          "return_dict_in_generate");

  /// Of a GGUF file's metadata: what llama.cpp takes for the sampling of a model.
  private static final String IN_GGUF = "general.sampling.";

  /// What a model's makers suggest in `generation_config.json`, which draws only where it says so;
  /// else what suits most models in a chat.
  public static SuggestedSampling ofChat(Path checkpoint) {
    if (Files.isRegularFile(checkpoint) && GgufFile.isNamed(checkpoint)) {
      var own = ofMetadata(checkpoint);
      if (own != null) {
        return own;
      }
    }
    Path file =
        Files.isDirectory(checkpoint) ? checkpoint.resolve(FILE) : checkpoint.resolveSibling(FILE);
    if (!Files.exists(file)) {
      return OF_CHATS;
    }
    ObjectNode config = JsonFile.object(file, JsonFile.SMALL, WAY_OUT);
    List<String> notes = notes(file, config);
    if (!config.has("do_sample") && !config.has("temperature") && !config.has("top_p")) {
      return ofChats(OF_CHATS.by, notes);
    }
    JsonNode sampling = config.path("do_sample");
    if (!sampling.isMissingNode() && !sampling.isNull() && !sampling.isBoolean()) {
      throw wrong(file, "do_sample", sampling, "true or false");
    }
    boolean draws = sampling.asBoolean(false);
    double topK = draws ? number(file, config, "top_k", 50) : 0;
    if (topK != (int) topK) {
      throw wrong(file, "top_k", config.path("top_k"), "a whole number");
    }
    var suggested =
        new SuggestedSampling(
            "as %s says".formatted(file.getFileName()),
            draws ? number(file, config, "temperature", 1) : 0,
            (int) topK,
            draws ? number(file, config, "top_p", 1) : 1,
            draws ? number(file, config, "min_p", 0) : 0,
            number(file, config, "repetition_penalty", 1),
            notes);
    try {
      suggested.requirePossible();
    } catch (InvalidInputException e) {
      throw new InvalidInputException("%s: %s".formatted(file, e.getMessage()), e);
    }
    return suggested;
  }

  private static SuggestedSampling ofChats(String by, List<String> notes) {
    return new SuggestedSampling(by, 0.7, 0, 0.95, 0, 1, notes);
  }

  /// What a GGUF file's metadata suggest; null where they suggest nothing.
  private static @Nullable SuggestedSampling ofMetadata(Path checkpoint) {
    try (var file = GgufFile.open(checkpoint)) {
      var metadata = file.metadata();
      if (metadata.keys().stream().noneMatch(key -> key.startsWith(IN_GGUF))) {
        return null;
      }
      Long topK = metadata.whole(IN_GGUF + "top_k");
      var suggested =
          new SuggestedSampling(
              "as the file's metadata say",
              orElse(metadata.number(IN_GGUF + "temp"), OF_CHATS.temperature),
              topK == null ? OF_CHATS.topK : Math.toIntExact(Math.clamp(topK, 0, 1 << 30)),
              orElse(metadata.number(IN_GGUF + "top_p"), OF_CHATS.topP),
              orElse(metadata.number(IN_GGUF + "min_p"), OF_CHATS.minP),
              orElse(metadata.number(IN_GGUF + "penalty_repeat"), 1),
              notes(checkpoint, metadata.left(IN_GGUF)));
      try {
        suggested.requirePossible();
      } catch (InvalidInputException e) {
        throw new InvalidInputException(
            "%s: its metadata of sampling: %s".formatted(checkpoint, e.getMessage()), e);
      }
      return suggested;
    }
  }

  private static double orElse(@Nullable Double number, double otherwise) {
    return number == null ? otherwise : number;
  }

  private static List<String> notes(Path file, ObjectNode config) {
    return notes(
        file,
        config.properties().stream()
            .filter(member -> !member.getValue().isNull())
            .map(Map.Entry::getKey)
            .filter(name -> !FOLLOWED.contains(name) && !WITHOUT_EFFECT.contains(name))
            .toList());
  }

  private static List<String> notes(Path file, Collection<String> others) {
    return others.isEmpty()
        ? List.of()
        : List.of(
            "%s also says %s, which is not followed"
                .formatted(file, Printable.brief(String.join(", ", others), 200)));
  }

  /// As it is suggested, with random numbers of a seed.
  public Choice choice(long seed) {
    return new Choice(
        new Sampler(temperature, topK, topP, minP, seed),
        new LogitAdjustments(repetition, 0, 0, Map.of()));
  }

  /// Refuses what no token can be chosen by.
  private void requirePossible() {
    var _ = choice(0);
  }

  private static InvalidInputException wrong(
      Path file, String name, JsonNode value, String wanted) {
    return new InvalidInputException(
        "%s: %s must be %s, not %s; %s"
            .formatted(file, name, wanted, Printable.brief(value, 60), WAY_OUT));
  }

  private static double number(Path file, ObjectNode config, String name, double otherwise) {
    JsonNode value = config.path(name);
    if (value.isMissingNode() || value.isNull()) {
      return otherwise;
    }
    if (!value.isNumber()) {
      throw wrong(file, name, value, "a number");
    }
    return value.asDouble();
  }
}
