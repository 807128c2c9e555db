package dev.sluice.evaluation;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.Comparator;
import java.util.List;
import java.util.stream.IntStream;

/// The inputs of many requests with what they have in common at the start written once: the choices
/// of a question share its text, and all questions share the examples before them.
///
/// Where a shared part ends depends on the requests and the model alone, and not on how many are
/// computed at a time.
final class PrefixTree {
  /// A piece of some requests' inputs, after the pieces above it.
  ///
  /// @param requests the indices of those whose inputs go through it
  /// @param from its first token's place in their inputs
  /// @param to the place after its last
  /// @param children what follows it; empty at the end of all
  record Node(int[] requests, int from, int to, List<Node> children) {
    int tokens() {
      return to - from;
    }

    private int depth() {
      return 1 + children.stream().mapToInt(Node::depth).max().orElse(0);
    }
  }

  private final List<TokenRequest> requests;
  private final int leastShared;
  private final int grain;
  private final List<Node> roots;

  /// @param leastShared fewer shared tokens are computed again rather than kept
  /// @param grain what the length of a shared part is a multiple of, so that few lengths occur
  PrefixTree(List<TokenRequest> requests, int leastShared, int grain) {
    this.requests = requests;
    this.leastShared = Math.max(grain, leastShared);
    this.grain = grain;
    int[] sorted =
        IntStream.range(0, requests.size())
            .boxed()
            .sorted(Comparator.comparing(i -> requests.get(i).inputs(), Arrays::compare))
            .mapToInt(Integer::intValue)
            .toArray();
    this.roots = after(sorted, 0);
  }

  List<Node> roots() {
    return roots;
  }

  /// The most pieces above one another.
  int depth() {
    return roots.stream().mapToInt(Node::depth).max().orElse(0);
  }

  /// The pieces that follow the first `from` tokens, which these requests share.
  private List<Node> after(int[] sorted, int from) {
    List<Node> nodes = new ArrayList<>();
    for (int begin = 0; begin < sorted.length; ) {
      int end = begin + 1;
      while (end < sorted.length && sharesPiece(sorted[begin], sorted[end], from)) {
        end++;
      }
      int[] run = Arrays.copyOfRange(sorted, begin, end);
      int shared = shared(run[0], run[run.length - 1]);
      boolean same = shared == requests.get(run[run.length - 1]).inputs().length;
      int to = same ? shared : shared / grain * grain;
      // What ends here has been seen to its end.
      int[] longer = Arrays.stream(run).filter(i -> requests.get(i).inputs().length > to).toArray();
      nodes.add(new Node(run, from, to, after(longer, to)));
      begin = end;
    }
    return nodes;
  }

  private boolean sharesPiece(int first, int other, int from) {
    int shared = shared(first, other);
    boolean same =
        shared == requests.get(first).inputs().length
            && shared == requests.get(other).inputs().length;
    return same || shared / grain * grain - from >= leastShared;
  }

  /// How many inputs two requests share at the start.
  private int shared(int first, int other) {
    int[] a = requests.get(first).inputs();
    int[] b = requests.get(other).inputs();
    int mismatch = Arrays.mismatch(a, b);
    return mismatch < 0 ? a.length : mismatch;
  }
}
