package dev.sluice.template;

import static dev.sluice.template.Numbers.whole;

import dev.sluice.template.Values.Function;
import dev.sluice.template.Values.Undefined;
import java.util.List;
import org.jspecify.annotations.Nullable;

/// What `loop` is within a loop.
final class Loop {
  private final Values values;
  private final List<Object> items;
  private int index;
  private @Nullable Object changed;

  Loop(Values values, List<Object> items) {
    this.values = values;
    this.items = items;
  }

  void at(int index) {
    this.index = index;
  }

  int length() {
    return items.size();
  }

  @Nullable Object member(String name) {
    int length = items.size();
    return switch (name) {
      case "index" -> whole(index + 1);
      case "index0" -> whole(index);
      case "revindex" -> whole(length - index);
      case "revindex0" -> whole(length - index - 1);
      case "length" -> whole(length);
      case "depth" -> whole(1);
      case "depth0" -> whole(0);
      case "first" -> index == 0;
      case "last" -> index == length - 1;
      case "previtem" ->
          index > 0 ? items.get(index - 1) : new Undefined("there is no previous item");
      case "nextitem" ->
          index < length - 1 ? items.get(index + 1) : new Undefined("there is no next item");
      case "cycle" -> new Function("cycle", this::cycle);
      case "changed" -> new Function("changed", this::changed);
      default -> null;
    };
  }

  private Object cycle(Arguments arguments) {
    List<Object> given = arguments.positional();
    if (given.isEmpty()) {
      throw new TemplateFailure("no items for cycling given");
    }
    return given.get(index % given.size());
  }

  private Object changed(Arguments arguments) {
    boolean same = changed != null && values.equal(changed, arguments.positional());
    changed = arguments.positional();
    return !same;
  }
}
