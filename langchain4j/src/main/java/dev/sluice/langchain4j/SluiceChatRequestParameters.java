package dev.sluice.langchain4j;

import dev.langchain4j.exception.UnsupportedFeatureException;
import dev.langchain4j.model.chat.request.ChatRequestParameters;
import dev.langchain4j.model.chat.request.DefaultChatRequestParameters;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.Objects;
import org.jspecify.annotations.Nullable;

/// What a request to Sluice may say besides what all models understand.
public final class SluiceChatRequestParameters extends DefaultChatRequestParameters {
  /// Nothing.
  static final SluiceChatRequestParameters NONE = builder().build();

  private final @Nullable Long seed;
  private final @Nullable Double minP;
  private final @Nullable Double repetitionPenalty;
  private final Map<String, Object> templateVariables;

  private SluiceChatRequestParameters(Builder builder) {
    super(builder);
    this.seed = builder.seed;
    this.minP = builder.minP;
    this.repetitionPenalty = builder.repetitionPenalty;
    this.templateVariables = Map.copyOf(builder.templateVariables);
  }

  /// Of the random numbers; null for others each time.
  public @Nullable Long seed() {
    return seed;
  }

  /// The least share of the likeliest token's probability that a token must have; null for the
  /// model's.
  public @Nullable Double minP() {
    return minP;
  }

  /// What logits of tokens that the text has are divided by; null for the model's.
  public @Nullable Double repetitionPenalty() {
    return repetitionPenalty;
  }

  /// What the chat template is given besides, such as `enable_thinking`.
  public Map<String, Object> templateVariables() {
    return templateVariables;
  }

  @Override
  public SluiceChatRequestParameters overrideWith(ChatRequestParameters that) {
    return builder().overrideWith(this).overrideWith(that).build();
  }

  @Override
  public SluiceChatRequestParameters defaultedBy(ChatRequestParameters that) {
    return builder().overrideWith(that).overrideWith(this).build();
  }

  @Override
  public boolean equals(Object other) {
    return super.equals(other)
        && other instanceof SluiceChatRequestParameters that
        && Objects.equals(seed, that.seed)
        && Objects.equals(minP, that.minP)
        && Objects.equals(repetitionPenalty, that.repetitionPenalty)
        && templateVariables.equals(that.templateVariables);
  }

  @Override
  public int hashCode() {
    return Objects.hash(super.hashCode(), seed, minP, repetitionPenalty, templateVariables);
  }

  @Override
  public String toString() {
    return "%s, seed %s, min-p %s, repetition penalty %s, template variables %s"
        .formatted(super.toString(), seed, minP, repetitionPenalty, templateVariables);
  }

  /// Begins to put them together.
  public static Builder builder() {
    return new Builder();
  }

  /// Puts them together.
  public static final class Builder extends DefaultChatRequestParameters.Builder<Builder> {
    private @Nullable Long seed;
    private @Nullable Double minP;
    private @Nullable Double repetitionPenalty;
    private final Map<String, Object> templateVariables = new LinkedHashMap<>();

    private Builder() {}

    /// @throws UnsupportedFeatureException if they are another model's, since what is theirs alone
    ///   would be lost
    @Override
    public Builder overrideWith(ChatRequestParameters parameters) {
      super.overrideWith(parameters);
      if (parameters instanceof SluiceChatRequestParameters own) {
        seed = own.seed != null ? own.seed : seed;
        minP = own.minP != null ? own.minP : minP;
        repetitionPenalty =
            own.repetitionPenalty != null ? own.repetitionPenalty : repetitionPenalty;
        templateVariables.putAll(own.templateVariables);
      } else if (parameters.getClass() != DefaultChatRequestParameters.class) {
        throw new UnsupportedFeatureException(
            "%s are the parameters of other models; take %s or ChatRequestParameters"
                .formatted(
                    parameters.getClass().getSimpleName(),
                    SluiceChatRequestParameters.class.getSimpleName()));
      }
      return this;
    }

    /// See [SluiceChatRequestParameters#seed].
    public Builder seed(@Nullable Long number) {
      seed = number;
      return this;
    }

    /// See [SluiceChatRequestParameters#minP].
    public Builder minP(@Nullable Double share) {
      minP = share;
      return this;
    }

    /// See [SluiceChatRequestParameters#repetitionPenalty].
    public Builder repetitionPenalty(@Nullable Double penalty) {
      repetitionPenalty = penalty;
      return this;
    }

    /// See [SluiceChatRequestParameters#templateVariables].
    public Builder templateVariable(String name, Object value) {
      templateVariables.put(name, value);
      return this;
    }

    @Override
    public SluiceChatRequestParameters build() {
      return new SluiceChatRequestParameters(this);
    }
  }
}
