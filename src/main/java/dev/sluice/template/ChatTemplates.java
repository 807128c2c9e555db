package dev.sluice.template;

import dev.sluice.InvalidInputException;
import dev.sluice.files.Failures;
import dev.sluice.files.JsonFile;
import dev.sluice.files.RegularFile;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.charset.CharacterCodingException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.LocalDateTime;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import org.jspecify.annotations.Nullable;
import tools.jackson.databind.JsonNode;
import tools.jackson.databind.node.ObjectNode;

/// The templates that a model has, and the special tokens that they may write.
public final class ChatTemplates {
  private static final String FILE = "chat_template.jinja";
  private static final String MORE = "additional_chat_templates";
  private static final String CONFIG = "tokenizer_config.json";
  private static final String TOKENS = "special_tokens_map.json";
  private static final String DEFAULT = "default";
  private static final String WITH_TOOLS = "tool_use";

  private static final String FETCH = "fetch it again with the model";

  /// The names that templates know special tokens by.
  private static final List<String> TOKEN_NAMES =
      List.of(
          "bos_token",
          "eos_token",
          "unk_token",
          "sep_token",
          "pad_token",
          "cls_token",
          "mask_token");

  private record Named(String place, String source) {}

  private final Map<String, Named> sources;
  private final Map<String, String> tokens;
  private final Map<String, ChatTemplate> parsed = new ConcurrentHashMap<>();

  private ChatTemplates(Map<String, Named> sources, Map<String, String> tokens) {
    this.sources = Map.copyOf(sources);
    this.tokens = Map.copyOf(tokens);
  }

  /// The only template of a model, from elsewhere than a directory.
  ///
  /// @param place which messages begin with: `The chat template of model.gguf`
  /// @param tokens special tokens by name, such as `bos_token`
  public static ChatTemplates of(String place, String source, Map<String, String> tokens) {
    return new ChatTemplates(Map.of(DEFAULT, new Named(place, source)), tokens);
  }

  /// The only template of a model, from a file.
  ///
  /// @param tokens special tokens by name
  public static ChatTemplates ofFile(Path file, Map<String, String> tokens) {
    return new ChatTemplates(Map.of(DEFAULT, ofFile(file)), tokens);
  }

  /// Those of a model's directory, as `transformers` looks for them: `chat_template.jinja` and
  /// `additional_chat_templates`, and only where there is none, `chat_template` in
  /// `tokenizer_config.json`.
  ///
  /// @return null if it has none
  public static @Nullable ChatTemplates find(Path directory) {
    Path file = directory.resolve(CONFIG);
    ObjectNode config = Files.exists(file) ? JsonFile.object(file, JsonFile.SMALL, FETCH) : null;
    Map<String, Named> sources = files(directory);
    if (sources.isEmpty() && config != null) {
      sources = ofConfig(file, config.path("chat_template"));
    }
    return sources.isEmpty() ? null : new ChatTemplates(sources, tokens(directory, config));
  }

  private static Map<String, Named> files(Path directory) {
    var sources = new LinkedHashMap<String, Named>();
    Path file = directory.resolve(FILE);
    if (Files.exists(file)) {
      sources.put(DEFAULT, ofFile(file));
    }
    Path more = directory.resolve(MORE);
    if (Files.isDirectory(more)) {
      try (var found = Files.newDirectoryStream(more, "*.jinja")) {
        for (Path other : found) {
          String name = String.valueOf(other.getFileName());
          sources.put(name.substring(0, name.length() - ".jinja".length()), ofFile(other));
        }
      } catch (IOException e) {
        throw new InvalidInputException(
            "%s cannot be read (%s); %s".formatted(more, Failures.words(e), FETCH), e);
      }
    }
    return sources;
  }

  private static Named ofFile(Path file) {
    byte[] bytes = RegularFile.read(file, 4L * Source.MOST, FETCH);
    try {
      return new Named(
          "The chat template " + file,
          StandardCharsets.UTF_8.newDecoder().decode(ByteBuffer.wrap(bytes)).toString());
    } catch (CharacterCodingException e) {
      throw new InvalidInputException("%s is not UTF-8 text; %s".formatted(file, FETCH), e);
    }
  }

  private static Map<String, Named> ofConfig(Path file, JsonNode template) {
    var sources = new LinkedHashMap<String, Named>();
    String place = "The chat template of " + file;
    if (template.isMissingNode() || template.isNull()) {
      return sources;
    }
    if (template.isString()) {
      sources.put(DEFAULT, new Named(place, template.stringValue()));
      return sources;
    }
    for (JsonNode one : template) {
      if (!template.isArray() || !one.path("name").isString() || !one.path("template").isString()) {
        sources.clear();
        break;
      }
      String name = one.path("name").stringValue();
      sources.put(
          name,
          new Named("%s named '%s'".formatted(place, name), one.path("template").stringValue()));
    }
    if (sources.isEmpty()) {
      throw new InvalidInputException(
          "%s has a chat_template that is neither a string nor a list of names with templates; %s"
              .formatted(file, FETCH));
    }
    return sources;
  }

  private static Map<String, String> tokens(Path directory, @Nullable ObjectNode config) {
    var tokens = new LinkedHashMap<String, String>();
    Path file = directory.resolve(TOKENS);
    if (Files.exists(file)) {
      addTokens(tokens, JsonFile.object(file, JsonFile.SMALL, FETCH));
    }
    if (config != null) {
      addTokens(tokens, config);
    }
    return tokens;
  }

  /// A token is a string, or an object whose `content` is one; null takes an earlier one away.
  private static void addTokens(Map<String, String> tokens, ObjectNode config) {
    for (String name : TOKEN_NAMES) {
      JsonNode value = config.path(name);
      JsonNode text = value.isObject() ? value.path("content") : value;
      if (text.isString()) {
        tokens.put(name, text.stringValue());
      } else if (value.isNull()) {
        tokens.remove(name);
      }
    }
  }

  /// Special tokens by the names that templates have for them.
  public Map<String, String> tokens() {
    return tokens;
  }

  /// Whether some template names a variable, so that giving it may change something.
  public boolean mention(String variable) {
    return sources.values().stream().anyMatch(named -> named.source.contains(variable));
  }

  /// Reads the template for conversations with tools or without, which [#render] does by itself.
  ///
  /// @throws InvalidInputException as [ChatTemplate#parse]
  public ChatTemplate template(boolean withTools) {
    String name = withTools && sources.containsKey(WITH_TOOLS) ? WITH_TOOLS : DEFAULT;
    Named named = sources.get(name);
    if (named == null) {
      throw new InvalidInputException(
          "the model has chat templates named %s and none named '%s'; name one of them so"
              .formatted(sources.keySet().stream().sorted().toList(), DEFAULT));
    }
    return parsed.computeIfAbsent(name, _ -> ChatTemplate.parse(named.place, named.source));
  }

  /// The text that the model continues; see [ChatTemplate#render].
  public Rendering render(Conversation conversation, LocalDateTime now) {
    return template(conversation.tools() != null).render(conversation, tokens, now);
  }
}
