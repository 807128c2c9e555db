package dev.sluice.tensor;

/// Sizes of a training step.
public enum TrainingShape {
  /// 8192 tokens of the model `small`.
  D384(16, 512, 384, 6, 2, 1024, 256, 8),
  /// 4096 tokens of a model whose vocabulary is one of subwords.
  D768(4, 1024, 768, 12, 4, 2048, 4096, 12);

  public static final int HEAD_SIZE = 64;

  public final int batch;
  public final int tokens;
  public final int hidden;
  public final int heads;
  public final int keyValueHeads;
  public final int feedForward;
  public final int vocabulary;
  public final int layers;

  TrainingShape(
      int batch,
      int tokens,
      int hidden,
      int heads,
      int keyValueHeads,
      int feedForward,
      int vocabulary,
      int layers) {
    this.batch = batch;
    this.tokens = tokens;
    this.hidden = hidden;
    this.heads = heads;
    this.keyValueHeads = keyValueHeads;
    this.feedForward = feedForward;
    this.vocabulary = vocabulary;
    this.layers = layers;
  }
}
