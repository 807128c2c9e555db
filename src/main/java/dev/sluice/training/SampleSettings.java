package dev.sluice.training;

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

  /// What samples continue; a text begins after the token that ends one.
  int[] prompt(Tokenizer tokenizer) {
    int[] prompt = tokenizer.encode(samplePrompt);
    return prompt.length > 0 ? prompt : new int[] {tokenizer.endOfText()};
  }

  /// The prompt and how a model continues it.
  String sample(Decoder decoder, Tokenizer tokenizer, long seed) {
    var sampler = new Sampler(0.8, 0, 0.95, seed);
    var continued =
        new Generator(decoder).generate(prompt(tokenizer), sampler, sampleTokens, Set.of()).ids();
    return samplePrompt + tokenizer.decode(continued);
  }
}
