package dev.sluice.training;

import dev.sluice.InvalidInputException;
import dev.sluice.Printable;
import dev.sluice.attention.AttentionConfig;
import dev.sluice.attention.AttentionVariant;
import dev.sluice.decoder.DecoderConfig;
import dev.sluice.decoder.Decoders;
import dev.sluice.decoder.Experts;
import dev.sluice.decoder.FeedForwardConfig;
import dev.sluice.decoder.LayerConfig;
import dev.sluice.decoder.MixerConfig;
import dev.sluice.decoder.ResidualVariant;
import dev.sluice.decoder.Router;
import dev.sluice.deltanet.GatedDeltaNetConfig;
import dev.sluice.operations.DeltaHeads;
import dev.sluice.settings.Setting;
import dev.sluice.tokenizer.Tokenizer;
import java.util.ArrayList;
import java.util.List;
import java.util.stream.IntStream;

/// The model's shape: a named model, and the sizes that take the place of its own. A size of 0
/// stands for the named model's.
public record ShapeSettings(
    @Setting(initial = "tiny", help = "A named model: {models}.") String model,
    @Setting(
            initial = "0",
            called = "the tokenizer's",
            least = 0,
            use = "0 for the named model's",
            help = "Vocabulary of the model.")
        int vocabSize,
    @Setting(
            initial = "0",
            called = "the model's",
            least = 0,
            use = "0 for the named model's",
            help = "Model width.")
        int hiddenSize,
    @Setting(
            initial = "0",
            called = "the model's",
            least = 0,
            use = "0 for the named model's",
            help = "Feed-forward width.")
        int intermediateSize,
    @Setting(
            initial = "0",
            called = "the model's",
            least = 0,
            use = "0 for the named model's",
            help = "Number of blocks.")
        int layers,
    @Setting(
            initial = "model",
            help =
                "What mixes tokens in each block: model (the named model's own), or attention,"
                    + " sliding (attention with a window) and gdn (Gated DeltaNet) joined by commas"
                    + " and repeated over the blocks, such as gdn,gdn,gdn,attention.")
        String layersPattern,
    @Setting(
            initial = "0",
            called = "the model's",
            least = 0,
            use = "0 for the named model's",
            help =
                "How many keys a query sees, its own and those just before it; in the blocks that"
                    + " the pattern calls sliding, or in all blocks of attention where it calls"
                    + " none so.")
        int slidingWindow,
    @Setting(
            initial = "0",
            called = "the model's",
            least = 0,
            use = "0 for the named model's",
            help = "Query heads.")
        int attentionHeads,
    @Setting(
            initial = "0",
            called = "the model's",
            least = 0,
            use = "0 for the named model's",
            help = "Key/value heads.")
        int keyValueHeads,
    @Setting(
            initial = "0",
            called = "the model's",
            least = 0,
            use = "0 for the named model's",
            help = "Size of a head.")
        int headDim,
    @Setting(
            initial = "true",
            help = "Normalise queries and keys of each head, where the named model does.")
        boolean qkNorm,
    @Setting(
            initial = "0",
            called = "the model's",
            least = 0,
            use = "0 for the named model's",
            help = "Experts of a feed-forward layer; 1 for a dense model.")
        int experts,
    @Setting(
            initial = "0",
            called = "the model's",
            least = 0,
            use = "0 for the named model's",
            help = "How many experts a token goes through.")
        int expertsPerToken,
    @Setting(
            initial = "1e-3",
            least = 0,
            use = "0 or a small positive number",
            help = "Weight of the loss that balances experts.")
        double expertBalance,
    @Setting(
            initial = "1e-3",
            least = 0,
            use = "0 or a small positive number",
            help = "Weight of the router's z-loss, where its scores are a softmax.")
        double routerZ,
    @Setting(initial = "true", help = "Use the embedding as the output matrix.")
        boolean tieWordEmbeddings) {
  /// What [#expertBalance] and [#routerZ] are where nobody says otherwise.
  private static final double USUAL_BALANCE = 1e-3;

  /// What Gated DeltaNet's convolution sees in the Qwen3.5 family.
  private static final int CONVOLUTION = 4;

  private static final String ATTENTION = "attention";
  private static final String SLIDING = "sliding";
  private static final String DELTA_NET = "gdn";
  private static final List<String> WORDS = List.of(ATTENTION, SLIDING, DELTA_NET);
  private static final String NAMED = "model";

  public ShapeSettings {
    if (!layersPattern.equals(NAMED)) {
      for (String word : words(layersPattern)) {
        if (!WORDS.contains(word)) {
          throw new InvalidInputException(
              "layers_pattern '%s' has the word '%s'; use %s joined by commas, such as gdn,gdn,gdn,attention, or model"
                  .formatted(
                      Printable.brief(layersPattern, 100),
                      Printable.brief(word, 40),
                      String.join(", ", WORDS)));
        }
      }
    }
    if (words(layersPattern).contains(SLIDING) && slidingWindow == 0) {
      throw new InvalidInputException(
          "layers_pattern '%s' has blocks that are sliding, but sliding_window is 0; give the window"
              .formatted(Printable.brief(layersPattern, 100)));
    }
  }

  private static List<String> words(String pattern) {
    return List.of(pattern.split(",", -1)).stream().map(String::strip).toList();
  }

  /// V: the tokenizer's vocabulary, or what is set, which cannot be smaller.
  int vocabulary(Tokenizer tokenizer) {
    int needed = tokenizer.vocabularySize();
    if (vocabSize != 0 && vocabSize < needed) {
      throw new InvalidInputException(
          "the tokenizer has %d tokens but vocab_size is %d; raise vocab_size or choose another tokenizer"
              .formatted(needed, vocabSize));
    }
    return vocabSize == 0 ? needed : vocabSize;
  }

  /// The model without gates and variations, for sequences of at least so many tokens.
  DecoderConfig decoder(int vocabSize, int sequenceLength) {
    var named = Decoders.named(model);
    int count = layers > 0 ? layers : named.layers().size();
    var uniform = // refuses too many before they are listed
        DecoderConfig.uniform(
            vocabSize,
            count,
            layer(named, 0),
            Math.max(sequenceLength, named.maxPositionEmbeddings()),
            named.norm(),
            tieWordEmbeddings && named.tieWordEmbeddings(),
            named.initializerRange());
    return uniform.withLayers(
        IntStream.range(0, count).mapToObj(index -> layer(named, index)).toList());
  }

  /// A block: the named model's of that place, whose blocks are repeated where there are fewer.
  private LayerConfig layer(DecoderConfig named, int index) {
    var layer = named.layers().get(index % named.layers().size());
    return new LayerConfig(
        mixer(named, layer, index), feedForward(layer.feedForward(), named), ResidualVariant.PLAIN);
  }

  private MixerConfig mixer(DecoderConfig named, LayerConfig layer, int index) {
    var words = words(layersPattern);
    String word = words.get(index % words.size());
    boolean linear = word.equals(NAMED) ? layer.attention().isEmpty() : word.equals(DELTA_NET);
    var attention = attention(layer.attention().or(named::firstAttention).orElseThrow(), named);
    if (slidingWindow > 0 && (word.equals(SLIDING) || !words.contains(SLIDING))) {
      attention = attention.with(attention.positions().withWindow(slidingWindow));
    }
    return linear
        ? new MixerConfig.DeltaNet(deltaNet(named, layer, attention))
        : new MixerConfig.SoftmaxAttention(attention);
  }

  private AttentionConfig attention(AttentionConfig of, DecoderConfig named) {
    return new AttentionConfig(
        width(named),
        attentionHeads > 0 ? attentionHeads : of.attentionHeads(),
        keyValueHeads > 0 ? keyValueHeads : of.keyValueHeads(),
        headDim > 0 ? headDim : of.headDim(),
        of.qkNorm() && qkNorm,
        of.norm(),
        of.positions(),
        of.biases(),
        List.of(),
        AttentionVariant.PLAIN);
  }

  private int width(DecoderConfig named) {
    return hiddenSize > 0 ? hiddenSize : named.hiddenSize();
  }

  /// The named model's Gated DeltaNet, where it has one and its heads are not changed. Else, as in
  /// Qwen3-Next and Qwen3.5, its results are together as wide as those of attention's heads, and
  /// there are half as many keys as values: a value head of attention's size for each query head,
  /// keys of the same size.
  private GatedDeltaNetConfig deltaNet(
      DecoderConfig named, LayerConfig layer, AttentionConfig attention) {
    if (layer.mixer() instanceof MixerConfig.DeltaNet(var own)
        && attentionHeads == 0
        && headDim == 0) {
      return new GatedDeltaNetConfig(
          width(named), own.heads(), own.convolutionWidth(), own.rmsNormEps());
    }
    int values = attention.attentionHeads();
    int keys = values % 2 == 0 ? values / 2 : values;
    return new GatedDeltaNetConfig(
        width(named),
        new DeltaHeads(keys, values, attention.headDim(), attention.headDim()),
        CONVOLUTION,
        named.norm().epsilon());
  }

  /// A dense layer among mixtures stays one.
  private FeedForwardConfig feedForward(FeedForwardConfig of, DecoderConfig named) {
    var own = of.experts();
    boolean dense = own.count() == 0 && named.layers().stream().anyMatch(ShapeSettings::isMixture);
    int count = experts > 0 && !dense ? experts : Math.max(1, own.count());
    int perToken = expertsPerToken > 0 ? expertsPerToken : Math.max(1, own.perToken());
    return new FeedForwardConfig(
        width(named),
        intermediateSize > 0 ? intermediateSize : of.intermediateSize(),
        of.glu(),
        of.biases(),
        count == 1
            ? Experts.NONE
            : new Experts(
                count,
                perToken,
                own.router(),
                own.shared(),
                expertBalance,
                own.router().score() == Router.Score.SIGMOID ? 0 : routerZ));
  }

  /// What these do not do, though they are given.
  public List<String> notes() {
    boolean mixture =
        experts == 0
            ? Decoders.named(model).layers().stream().anyMatch(ShapeSettings::isMixture)
            : experts > 1;
    List<String> idle = new ArrayList<>();
    if (!mixture && expertsPerToken > 0) {
      idle.add("experts_per_token " + expertsPerToken);
    }
    if (!mixture && expertBalance != USUAL_BALANCE) {
      idle.add("expert_balance " + expertBalance);
    }
    if (!mixture && routerZ != USUAL_BALANCE) {
      idle.add("router_z " + routerZ);
    }
    return idle.stream()
        .map(setting -> setting + " does nothing: the model has no experts; experts gives it some.")
        .toList();
  }

  private static boolean isMixture(LayerConfig layer) {
    return layer.feedForward().experts().count() > 0;
  }
}
