package dev.sluice.openai;

import dev.sluice.generation.Choice;
import dev.sluice.generation.LogitAdjustments;
import dev.sluice.generation.Restriction;
import dev.sluice.generation.Sampler;
import dev.sluice.serving.Engine;
import dev.sluice.serving.ServedModel;
import dev.sluice.serving.TextRequest;
import dev.sluice.serving.TokenWatch;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.function.IntFunction;
import org.jspecify.annotations.Nullable;
import tools.jackson.databind.JsonNode;

/// What all requests for text have in common.
///
/// @param mostTokens of each text; 0 where the request does not say
/// @param stops strings before which a text ends
/// @param usage whether the last event of a stream tells how many tokens there were
/// @param watches whether each token tells what was seen of the pass that it comes from
record Common(
    Sampler sampler,
    LogitAdjustments adjustments,
    int mostTokens,
    int sequences,
    List<String> stops,
    boolean stream,
    boolean usage,
    boolean reusesPrefixes,
    boolean ignoresEnds,
    boolean watches) {
  static final String WATCH = "sluice_watch";
  private static final int MOST_STOPS = 16;
  private static final int LONGEST_STOP = 500;
  private static final int MOST_BIASES = 1000;
  private static final double LARGEST_BIAS = 100;

  /// @param number of the request, from which it draws where it has no seed
  static Common read(Fields fields, ServedModel model, long number) {
    boolean stream = fields.flag("stream", false);
    boolean usage = false;
    var options = streamOptions(fields, stream);
    if (options != null) {
      usage = options.flag("include_usage", false);
      options.requireAllKnown();
    }
    return new Common(
        sampler(fields, model, number),
        adjustments(fields, model),
        mostTokens(fields),
        (int) fields.whole("n", 1, 1, Integer.MAX_VALUE),
        stops(fields),
        stream,
        usage,
        fields.flag("cache_prompt", true),
        fields.flag("ignore_eos", false),
        fields.flag(WATCH, false));
  }

  /// What requests of `/v1/responses` have of it: one text, which is not watched.
  ///
  /// @param number of the request, from which it draws where it has no seed
  static Common ofResponse(Fields fields, ServedModel model, long number) {
    boolean stream = fields.flag("stream", false);
    var options = streamOptions(fields, stream);
    if (options != null) {
      options.requireAllKnown();
    }
    return new Common(
        sampler(fields, model, number),
        adjustments(fields, model),
        (int) fields.whole("max_output_tokens", 0, 1, Integer.MAX_VALUE),
        1,
        stops(fields),
        stream,
        true,
        fields.flag("cache_prompt", true),
        fields.flag("ignore_eos", false),
        false);
  }

  private static @Nullable Fields streamOptions(Fields fields, boolean stream) {
    var options = fields.object("stream_options");
    if (options != null) {
      if (!stream) {
        throw ApiException.invalid(
            "stream_options",
            "stream_options is for streams; add \"stream\": true, or leave it out");
      }
      options.ignore("include_obfuscation");
    }
    return options;
  }

  private static Sampler sampler(Fields fields, ServedModel model, long number) {
    fields.text("model"); // there is one
    fields.ignore(
        "metadata",
        "prompt_cache_key",
        "prompt_cache_retention",
        "safety_identifier",
        "service_tier",
        "store",
        "user");
    var suggested = model.suggested().sampler();
    long seed = fields.whole("seed", suggested.seed() + number, Long.MIN_VALUE, Long.MAX_VALUE);
    double temperature = fields.number("temperature", suggested.temperature());
    int topK = (int) fields.whole("top_k", suggested.topK(), -1, Integer.MAX_VALUE);
    double given = fields.number("top_p", suggested.topP());
    double topP = given == 0 ? Double.MIN_NORMAL : given; // clients mean the likeliest token by it
    double minP = fields.number("min_p", suggested.minP());
    var sampler = new Sampler(1, Math.max(0, topK), 1, 0, seed); // -1 is all for many clients
    var ofTemperature =
        Fields.at("temperature", () -> new Sampler(temperature, sampler.topK(), 1, 0, seed));
    var ofTopP =
        Fields.at("top_p", () -> new Sampler(temperature, ofTemperature.topK(), topP, 0, seed));
    return Fields.at("min_p", () -> new Sampler(temperature, ofTopP.topK(), topP, minP, seed));
  }

  private static int mostTokens(Fields fields) {
    long newer = mostTokens(fields, "max_completion_tokens");
    long older = mostTokens(fields, "max_tokens");
    if (newer > 0 && older > 0 && newer != older) {
      throw ApiException.invalid(
          "max_tokens",
          "max_tokens is %d and max_completion_tokens %d; give one of them"
              .formatted(older, newer));
    }
    return (int) Math.max(newer, older);
  }

  /// -1 is for many clients as many as there is room for.
  private static long mostTokens(Fields fields, String name) {
    long most = fields.whole(name, 0, -1, Integer.MAX_VALUE);
    if (most == 0 && fields.has(name)) {
      throw Fields.wrong(name, most, "at least 1, or -1 for as many as there is room for");
    }
    return most < 0 ? Integer.MAX_VALUE : most;
  }

  private static LogitAdjustments adjustments(Fields fields, ServedModel model) {
    double repetition =
        fields.number("repetition_penalty", model.suggested().adjustments().repetition());
    double presence = fields.number("presence_penalty", 0);
    double frequency = fields.number("frequency_penalty", 0);
    Map<Integer, Double> bias = new HashMap<>();
    var biases = fields.object("logit_bias");
    if (biases != null) {
      if (biases.members().size() > MOST_BIASES) {
        throw ApiException.invalid(
            "logit_bias", "logit_bias has more than %d tokens".formatted(MOST_BIASES));
      }
      biases
          .members()
          .forEachEntry(
              (token, value) -> {
                String at = biases.place(token.matches("\\d{1,9}") ? token : "?");
                if (!token.matches("\\d{1,9}")) {
                  throw Fields.wrong("logit_bias", token, "an object whose keys are token numbers");
                }
                double added = value.isNumber() ? value.doubleValue() : Double.NaN;
                if (!(Math.abs(added) <= LARGEST_BIAS)) {
                  throw Fields.wrong(at, value, "a number from -100 to 100");
                }
                bias.put(
                    Integer.valueOf(token),
                    added == -LARGEST_BIAS ? Double.NEGATIVE_INFINITY : added);
              });
    }
    requirePenalty("repetition_penalty", repetition, 0, 0);
    requirePenalty("presence_penalty", 1, presence, 0);
    requirePenalty("frequency_penalty", 1, 0, frequency);
    return Fields.at(
        "logit_bias", () -> new LogitAdjustments(repetition, presence, frequency, bias));
  }

  private static void requirePenalty(
      String name, double repetition, double presence, double frequency) {
    var _ = Fields.at(name, () -> new LogitAdjustments(repetition, presence, frequency, Map.of()));
  }

  /// The same with random numbers of a seed that is so much larger.
  Common reseeded(long more) {
    return new Common(
        sampler.reseeded(sampler.seed() + more),
        adjustments,
        mostTokens,
        sequences,
        stops,
        stream,
        usage,
        reusesPrefixes,
        ignoresEnds,
        watches);
  }

  private static List<String> stops(Fields fields) {
    JsonNode node = fields.node("stop");
    var stops = new ArrayList<String>();
    if (node != null && node.isString()) {
      stops.add(node.stringValue());
    } else {
      for (JsonNode stop : fields.list("stop", MOST_STOPS)) {
        if (!stop.isString()) {
          throw Fields.wrong("stop", stop, "a string or a list of strings");
        }
        stops.add(stop.stringValue());
      }
    }
    for (String stop : stops) {
      if (stop.isEmpty() || stop.length() > LONGEST_STOP) {
        throw ApiException.invalid(
            "stop",
            "a stop string has %d characters and must have 1 to %d"
                .formatted(stop.length(), LONGEST_STOP));
      }
    }
    return stops;
  }

  /// What the engine is asked.
  ///
  /// @param place of the prompt in the request
  /// @param ends tokens that end a text
  /// @param usual the most tokens of a text where the request does not say
  TextRequest text(
      Engine engine,
      String place,
      int[] ids,
      int[] turnStarts,
      IntFunction<? extends Restriction> restrictions,
      Set<Integer> ends,
      int usual,
      int logprobs) {
    if (ids.length == 0) {
      throw ApiException.invalid(place, "the prompt has no tokens; give some text");
    }
    if (sequences > engine.limits().slots()) {
      throw ApiException.invalid(
          "n",
          "%d texts at once are asked for, and %d are possible"
              .formatted(sequences, engine.limits().slots()));
    }
    int room = engine.mostTokens(sequences) - ids.length;
    if (room < 1) {
      throw ApiException.invalid(
          place,
          "context_length_exceeded",
          "the prompt has %d tokens, and there is room for %d with at least one more"
              .formatted(ids.length, ids.length + room));
    }
    Fields.at(
        "logit_bias",
        () -> {
          adjustments.requireTokens(engine.vocabulary());
          return true;
        });
    int most =
        Math.min(
            room,
            mostTokens > 0
                ? mostTokens
                : Math.min(usual, watches ? TokenWatch.MOST_TOKENS : usual));
    if (watches) {
      Fields.at(
          WATCH,
          () -> {
            engine.requireWatchable(most);
            return true;
          });
    }
    return new TextRequest(
        ids,
        turnStarts,
        new Choice(sampler, adjustments, restrictions),
        most,
        ignoresEnds ? Set.of() : ends,
        sequences,
        logprobs,
        reusesPrefixes,
        watches);
  }
}
