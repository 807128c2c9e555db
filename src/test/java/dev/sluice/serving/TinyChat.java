package dev.sluice.serving;

import dev.sluice.operations.Precision;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import tools.jackson.databind.json.JsonMapper;
import tools.jackson.databind.node.ObjectNode;

/// The [TinyModel] as a directory with a real tokenizer, which has the control tokens of chats
/// besides, and a chat template.
public final class TinyChat {
  /// Numbers of a hidden state.
  public static final int HIDDEN = 64;

  private static final List<String> CONTROLS =
      List.of("<|im_start|>", "<|im_end|>", "<think>", "</think>", "<tool_call>", "</tool_call>");

  private static final int FIRST_CONTROL = 385;
  private static final int SPECIAL = 2; // the first so many have no text

  /// As small models of others have it.
  public static final String TEMPLATE =
      """
      {%- if tools %}<|im_start|>system
      {{ tools | tojson }}<|im_end|>
      {% endif %}
      {%- for m in messages %}<|im_start|>{{ m.role }}
      {{ m.content }}{% for c in m.tool_calls or [] %}<tool_call>
      {{ c.function.arguments | tojson }}</tool_call>{% endfor %}<|im_end|>
      {% endfor %}
      {%- if add_generation_prompt %}<|im_start|>assistant
      {% if enable_thinking is defined and enable_thinking %}<think>
      {% else %}<think>

      </think>

      {% endif %}{% endif %}\
      """;

  private TinyChat() {}

  /// The tokenizer's file.
  public static void writeTokenizer(Path file) throws IOException {
    var source =
        (ObjectNode)
            JsonMapper.shared()
                .readTree(
                    Files.readString(
                        Path.of("src/test/resources/dev/sluice/tokenizer/tokenizer.json")));
    for (int i = 0; i < CONTROLS.size(); i++) {
      ObjectNode token = source.withArray("added_tokens").addObject();
      token.put("id", FIRST_CONTROL + i).put("content", CONTROLS.get(i)).put("single_word", false);
      token.put("lstrip", false).put("rstrip", false).put("normalized", false);
      token.put("special", i < SPECIAL);
    }
    Files.writeString(file, source.toString());
  }

  /// The model's directory.
  public static Path write(Path directory) throws IOException {
    TinyModel.open(directory, Precision.FLOAT32).close();
    writeTokenizer(directory.resolve("tokenizer.json"));
    Files.writeString(directory.resolve("chat_template.jinja"), TEMPLATE);
    Files.writeString(
        directory.resolve("tokenizer_config.json"), "{\"eos_token\": \"<|im_end|>\"}");
    Files.writeString(directory.resolve("generation_config.json"), "{\"do_sample\": false}");
    return directory;
  }
}
