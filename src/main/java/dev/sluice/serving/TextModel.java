package dev.sluice.serving;

import dev.sluice.InvalidInputException;
import dev.sluice.decoder.Decoder;
import dev.sluice.files.JsonFile;
import dev.sluice.generation.Choice;
import dev.sluice.generation.Generator;
import dev.sluice.generation.Restriction;
import dev.sluice.probe.Probe;
import dev.sluice.schema.TokenMask;
import dev.sluice.state.PrefixCache;
import dev.sluice.state.PrefixCache.Reuse;
import dev.sluice.tensor.Scope;
import dev.sluice.tensor.Tensor;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.Set;
import java.util.concurrent.atomic.AtomicLong;
import java.util.function.Function;
import java.util.function.Supplier;
import org.jspecify.annotations.Nullable;
import tools.jackson.core.JacksonException;
import tools.jackson.databind.JsonNode;

/// A model that writes texts for any number of threads: weights, tokenizer, chat template and the
/// [Engine], which is started with it and ends with it.
///
/// On the CPU. Matrices stay where the file is mapped; [#embed] and [#watch] take their turns
/// between the steps of those who write.
public final class TextModel implements AutoCloseable {
  private final Decoder decoder;
  private final ServedModel known;
  private final @Nullable PrefixCache cache;
  private final Engine engine;
  private final int usualTokens;
  private final List<String> notes;
  private final AtomicLong numbers = new AtomicLong();

  TextModel(
      Decoder decoder,
      ServedModel known,
      EngineLimits limits,
      long cacheBytes,
      int usualTokens,
      List<String> notes) {
    this.decoder = decoder;
    this.known = known;
    this.cache = cacheBytes == 0 ? null : new PrefixCache(known.name(), cacheBytes);
    this.engine = new Engine(new Generator(decoder), limits, cache, Reuse.EXACT);
    this.usualTokens = usualTokens;
    this.notes = List.copyOf(notes);
  }

  /// Opens a model as usual.
  ///
  /// @param checkpoint a directory with `config.json`, weights and a tokenizer, or a GGUF file
  /// @throws InvalidInputException if it cannot be read, with the reason
  public static TextModel open(Path checkpoint) {
    return at(checkpoint).open();
  }

  /// Begins to open a model in another way than as usual.
  ///
  /// @param checkpoint as for [#open]
  public static ModelOpening at(Path checkpoint) {
    return new ModelOpening(checkpoint);
  }

  /// Sentences of how the model was read: what was not given, not used, or decided between.
  public List<String> notes() {
    return notes;
  }

  /// What is known of it beside its weights.
  public ServedModel known() {
    return known;
  }

  /// What writes for all who ask.
  public Engine engine() {
    return engine;
  }

  /// How many numbers a hidden state has.
  public int hiddenSize() {
    return decoder.config().hiddenSize();
  }

  // ---------------------------------------------------------------- writing

  /// How texts are written where nobody says: as the model's `generation_config.json` suggests,
  /// with random numbers that are another text's each time, and the same when a program runs again.
  public Manner manner() {
    var suggested = known.suggested();
    var choice = suggested.reseeded(suggested.sampler().seed() + numbers.getAndIncrement());
    return new Manner(choice.sampler(), choice.adjustments(), usualTokens, List.of());
  }

  /// Which tokens may come in an answer that is a JSON value, for [Question#withJson].
  ///
  /// @param schema a JSON Schema, as text
  /// @throws InvalidInputException if it cannot be followed
  public TokenMask json(String schema) {
    JsonNode parsed;
    try {
      parsed = JsonFile.mapper().build().readTree(schema);
    } catch (JacksonException e) {
      throw JsonFile.notJson("the schema", schema, e, "give a JSON Schema");
    }
    return known.mask("the schema", parsed);
  }

  /// Continues a text.
  public Answer complete(String text, Manner manner) {
    return begin(text, manner).await();
  }

  /// Answers messages.
  public Answer answer(Question question, Manner manner) {
    return begin(question, manner).await();
  }

  /// Begins to continue a text.
  ///
  /// @throws InvalidInputException if it cannot be continued so
  /// @throws RefusedException if too many wait, or a file of weights was written over
  public Writing begin(String text, Manner manner) {
    return begin(
        known.encode(text),
        new int[0],
        () -> Restriction.NONE,
        known.stopIds(),
        manner,
        listener -> new AnswerText(known, manner.stops(), listener));
  }

  /// Begins to answer messages.
  ///
  /// @throws InvalidInputException if they cannot be answered so
  /// @throws RefusedException if too many wait, or a file of weights was written over
  public Writing begin(Question question, Manner manner) {
    for (String name : question.variables().keySet()) {
      if (!known.templatesMention(name)) {
        throw new InvalidInputException(
            "the model's chat template does not ask for '%s', so it would change nothing; leave it out"
                .formatted(name));
      }
    }
    var prompt = question.prompt(known);
    return begin(
        prompt.ids(),
        prompt.turnStarts(),
        question.restriction(known, prompt),
        known.turnEnds(),
        manner,
        listener ->
            new AnswerText(
                known,
                manner.stops(),
                prompt.thinks(),
                question.tools(),
                !question.forced().isEmpty(),
                listener));
  }

  private Writing begin(
      int[] ids,
      int[] turnStarts,
      Supplier<Restriction> restriction,
      Set<Integer> ends,
      Manner manner,
      Function<AnswerText.Listener, AnswerText> reading) {
    if (ids.length == 0) {
      throw new InvalidInputException("the prompt has no tokens; give some text");
    }
    int room = engine.mostTokens(1) - ids.length;
    if (room < 1) {
      throw new InvalidInputException(
          "the prompt has %d tokens, and there is room for %d with at least one more"
              .formatted(ids.length, ids.length + room));
    }
    known.requireUnchanged();
    return new Writing(
        engine.submit(
            new TextRequest(
                ids,
                turnStarts,
                new Choice(manner.sampler(), manner.adjustments(), _ -> restriction.get()),
                Math.min(room, manner.mostTokens()),
                ends,
                1,
                TextRequest.NO_LOGPROBS,
                true,
                false)),
        reading);
  }

  // ---------------------------------------------------------------- looking inside

  /// The tokens of a text as the model is given them where it is not continued: with what the
  /// tokenizer's own template puts at its ends.
  private int[] framed(String text) {
    int[] framed = known.tokenizer().encodeFramed(text);
    int[] ids = Arrays.equals(framed, known.tokenizer().encode(text)) ? known.encode(text) : framed;
    int most = decoder.config().context();
    if (ids.length == 0 || ids.length > most) {
      throw new InvalidInputException(
          "a text has %d tokens, and must have 1 to %d".formatted(ids.length, most));
    }
    return ids;
  }

  /// A text as one vector, made of the hidden states behind the last norm.
  ///
  /// @param vector of [#hiddenSize] numbers, of any length
  /// @param tokens of the text
  @SuppressWarnings("ArrayRecordComponent") // belongs to whoever asked for it
  public record Embedded(float[] vector, int tokens) {}

  /// Texts as vectors. Each goes through the model alone, so that its vector does not depend on the
  /// others.
  public List<Embedded> embed(List<String> texts, Pooling pooling) {
    var prompts = texts.stream().map(this::framed).toList();
    return prompts.stream()
        .map(
            ids ->
                engine.with(
                    model -> {
                      try (var _ = Scope.withoutGradient()) {
                        return new Embedded(
                            pooled(pooling, hidden(model, ids, Probe.NONE), ids.length),
                            ids.length);
                      }
                    }))
        .toList();
  }

  /// Lets a text go through the model while a probe watches it. The probe is called in the engine's
  /// thread.
  public void watch(String text, Probe probe) {
    int[] ids = framed(text);
    engine.with(
        model -> {
          try (var _ = Scope.withoutGradient()) {
            hidden(model, ids, probe);
          }
          return true;
        });
  }

  private static Tensor hidden(Decoder model, int[] ids, Probe probe) {
    long[] wide = Arrays.stream(ids).asLongStream().toArray();
    return model.hiddenStates(Tensor.of(wide, 1, wide.length).to(model.device()), null, probe);
  }

  private float[] pooled(Pooling pooling, Tensor hiddenBTD, int tokens) {
    return switch (pooling) {
      case LAST -> hiddenBTD.narrow(1, tokens - 1, 1).floats();
      case MEAN -> {
        float[] all = hiddenBTD.floats();
        float[] mean = new float[hiddenSize()];
        for (int i = 0; i < mean.length; i++) {
          double sum = 0;
          for (int at = i; at < all.length; at += mean.length) {
            sum += all[at];
          }
          mean[i] = (float) (sum / tokens);
        }
        yield mean;
      }
    };
  }

  /// Ends the engine, which breaks off what is being written, and frees the weights.
  @Override
  public void close() {
    engine.close();
    if (cache != null) {
      cache.close();
    }
    decoder.close();
  }
}
