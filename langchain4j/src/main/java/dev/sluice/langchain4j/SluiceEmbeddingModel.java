package dev.sluice.langchain4j;

import dev.langchain4j.data.embedding.Embedding;
import dev.langchain4j.model.embedding.EmbeddingModel;
import dev.langchain4j.model.embedding.request.EmbeddingInput;
import dev.langchain4j.model.embedding.request.EmbeddingRequest;
import dev.langchain4j.model.embedding.response.EmbeddingResponse;
import dev.langchain4j.model.embedding.response.EmbeddingResponseMetadata;
import dev.langchain4j.model.output.TokenUsage;
import dev.sluice.serving.Pooling;
import dev.sluice.serving.TextModel;

/// Texts as vectors, made of the model's hidden states; each is what it is alone, and not scaled.
/// Parameters, such as a number of dimensions, are refused by name.
public final class SluiceEmbeddingModel implements EmbeddingModel {
  private final TextModel model;
  private final Pooling pooling;

  /// @param model which stays its owner's
  public SluiceEmbeddingModel(TextModel model, Pooling pooling) {
    this.model = model;
    this.pooling = pooling;
  }

  @Override
  public EmbeddingResponse doEmbed(EmbeddingRequest request) {
    try {
      var embedded =
          model.embed(request.inputs().stream().map(EmbeddingInput::text).toList(), pooling);
      int tokens = embedded.stream().mapToInt(TextModel.Embedded::tokens).sum();
      return EmbeddingResponse.builder()
          .embeddings(embedded.stream().map(each -> Embedding.from(each.vector())).toList())
          .metadata(
              EmbeddingResponseMetadata.builder()
                  .modelName(modelName())
                  .tokenUsage(new TokenUsage(tokens))
                  .build())
          .build();
    } catch (RuntimeException e) {
      throw Responses.failure(e);
    }
  }

  @Override
  public int dimension() {
    return model.hiddenSize();
  }

  @Override
  public String modelName() {
    return model.known().name();
  }
}
