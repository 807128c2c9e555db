package dev.sluice.attention;

/// What an attention layer may have besides gates.
///
/// @param sink what takes attention besides the keys
/// @param exclusive whether a head's output loses its part along the token's own value, see
///   [ExclusiveAttention]
/// @param nonlinearity of the output of scaled dot-product attention
/// @param switchHead how values, or keys and values, are chosen among experts
public record AttentionVariant(
    SoftmaxSink sink, boolean exclusive, SdpaNonlinearity nonlinearity, SwitchHead switchHead) {
  public static final AttentionVariant PLAIN =
      new AttentionVariant(SoftmaxSink.NONE, false, SdpaNonlinearity.NONE, SwitchHead.NONE);

  public AttentionVariant with(SoftmaxSink changed) {
    return new AttentionVariant(changed, exclusive, nonlinearity, switchHead);
  }

  public AttentionVariant with(SdpaNonlinearity changed) {
    return new AttentionVariant(sink, exclusive, changed, switchHead);
  }

  public AttentionVariant withExclusive(boolean changed) {
    return new AttentionVariant(sink, changed, nonlinearity, switchHead);
  }

  public AttentionVariant with(SwitchHead changed) {
    return new AttentionVariant(sink, exclusive, nonlinearity, changed);
  }
}
