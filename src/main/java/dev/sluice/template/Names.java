package dev.sluice.template;

import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import org.jspecify.annotations.Nullable;

/// The names that one scope reads and assigns, in the order of the text, which decides what Jinja
/// takes for its own from the start. A name that is first assigned, outside of branches, and that
/// no outer scope names, is undefined until then, also where a variable of that name is given.
final class Names {
  private final @Nullable Names outer;
  private final Set<String> known = new HashSet<>();
  private final List<String> assigned = new ArrayList<>();
  private int branches;

  Names(@Nullable Names outer) {
    this.outer = outer;
  }

  void read(String name) {
    if (!isKnown(name)) {
      known.add(name);
    }
  }

  /// A parameter, or what a loop goes through.
  void declare(String name) {
    known.add(name);
  }

  void assign(String name) {
    if (known.add(name) && branches == 0) {
      assigned.add(name);
    }
  }

  void enterBranch() {
    branches++;
  }

  void leaveBranch() {
    branches--;
  }

  private boolean isKnown(String name) {
    return known.contains(name) || (outer != null && outer.isKnown(name));
  }

  /// Asked when the whole template has been read, since an outer scope may name it later.
  List<String> undefined() {
    return assigned.stream().filter(name -> outer == null || !outer.isKnown(name)).toList();
  }
}
