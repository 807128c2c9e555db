package dev.sluice.training;

import dev.sluice.corpus.WindowRule;
import dev.sluice.decoder.Decoder;
import dev.sluice.generation.Generator;
import dev.sluice.generation.Sampler;
import dev.sluice.settings.Setting;
import dev.sluice.tokenizer.Tokenizer;
import java.util.Set;

/// What a run generates to be looked at.
public record SampleSettings(
    @Setting(
            initial = "0",
            least = 0,
            use = "0 for none",
            help = "Steps between samples; 0 samples at the end only.")
        int sampleEvery,
    @Setting(initial = "The ", help = "What samples continue.") String samplePrompt,
    @Setting(
            initial = "200",
            least = 0,
            use = "0 for none",
            help = "Tokens per sample; 0 for none.")
        int sampleTokens) {
  /// @param last whether the run ends with this step
  boolean isDue(int step, boolean last) {
    return sampleTokens > 0 && (last || (sampleEvery > 0 && step % sampleEvery == 0));
  }

  /// The prompt and how a model continues it.
  ///
  /// @param rule of the sequences that it is trained on
  String sample(Decoder decoder, Tokenizer tokenizer, WindowRule rule, long seed) {
    var sampler = new Sampler(0.8, 0, 0.95, seed);
    var continued =
        new Generator(decoder)
            .generate(rule.prompt(samplePrompt, tokenizer), sampler, sampleTokens, Set.of())
            .ids();
    return samplePrompt + tokenizer.decode(continued);
  }
}
