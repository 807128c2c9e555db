package dev.sluice.operations;

import dev.sluice.tensor.FusedBenchmark;
import dev.sluice.tensor.Tensor;
import dev.sluice.tensor.Weight;
import java.util.List;

/// Rows of the embedding table, which are float32 in every precision.
public class TokenEmbeddingBenchmark extends FusedBenchmark {
  private Tensor table;
  private Tensor ids;

  @Override
  protected void prepare() {
    table = tensors.weight(shape.vocabulary, shape.hidden);
    ids = tensors.ids(shape.vocabulary, shape.batch, shape.tokens);
  }

  @Override
  protected List<Tensor> composed() {
    return List.of(table.embedding(ids));
  }

  @Override
  protected List<Tensor> fused() {
    return List.of(TokenEmbedding.apply(new Weight("table", table), ids));
  }
}
