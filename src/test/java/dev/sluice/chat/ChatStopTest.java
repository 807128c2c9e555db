package dev.sluice.chat;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.sluice.attention.RopeScaling;
import dev.sluice.decoder.Decoder;
import dev.sluice.decoder.DecoderConfig;
import dev.sluice.generation.Choice;
import dev.sluice.generation.Generation.Ending;
import dev.sluice.generation.Generator;
import dev.sluice.generation.Sampler;
import dev.sluice.operations.Precision;
import dev.sluice.state.PrefixCache;
import dev.sluice.template.ChatTemplates;
import dev.sluice.tensor.Device;
import dev.sluice.tokenizer.Tokenizers;
import java.util.List;
import java.util.Map;
import java.util.Set;
import org.junit.jupiter.api.Test;

class ChatStopTest {
  private static final Chat.Listener NOBODY =
      new Chat.Listener() {
        @Override
        public void onRead(int tokens, int total) {}

        @Override
        public void onPiece(AnswerReader.Part part, String piece) {}
      };

  /// What was answered until then is kept; a question that nothing was answered to is not.
  @Test
  void aStoppedAnswerIsKeptIfItHasBegun() {
    var config =
        DecoderConfig.uniform(
            385,
            16,
            24,
            2,
            4,
            2,
            8,
            128,
            10_000,
            new RopeScaling.None(),
            1e-6,
            true,
            false,
            0.5,
            List.of());
    var templates =
        ChatTemplates.of(
            "here", "{% for m in messages %}{{ m.content }}<|endoftext|>{% endfor %}", Map.of());
    var tokenizer = Tokenizers.load("src/test/resources/dev/sluice/tokenizer/tokenizer.json");
    try (var decoder = Decoder.initialize(config, Precision.FLOAT32, Device.CPU, 7);
        var cache = new PrefixCache("", 1 << 20)) {
      var chat =
          new Chat(
              new Generator(decoder),
              new ChatFormat(templates, tokenizer),
              Set.of(),
              cache,
              Map.of(),
              List.of());
      var choice = new Choice(Sampler.GREEDY);
      var unbegun = chat.ask("the whale", choice, 5, () -> true, NOBODY);
      assertEquals(Ending.CALLER, unbegun.ending());
      assertFalse(unbegun.hasBegun());
      assertEquals(List.of(), chat.messages());
      boolean[] asked = {false};
      var begun =
          chat.ask(
              "so it ends",
              choice,
              5,
              () -> {
                boolean stop = asked[0]; // the first time is after the prompt
                asked[0] = true;
                return stop;
              },
              NOBODY);
      assertTrue(begun.hasBegun());
      assertEquals(1, begun.tokens());
      assertEquals(2, chat.messages().size());
    }
  }
}
