package dev.sluice.cli;

import dev.sluice.decoder.Decoders;
import dev.sluice.settings.Settings;
import dev.sluice.training.RunConfig;
import java.util.LinkedHashMap;
import java.util.Locale;
import java.util.Map;
import java.util.Objects;
import java.util.Set;
import org.jspecify.annotations.Nullable;
import picocli.CommandLine;
import picocli.CommandLine.Model.ArgGroupSpec;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Model.OptionSpec;
import picocli.CommandLine.ParseResult;

/// One flag for every setting of a run: `batch_size` in a file is `--batch-size` here.
final class SettingFlags {
  private SettingFlags() {}

  /// Adds the flags to a subcommand, in groups.
  ///
  /// @param left settings that the subcommand decides itself
  static void addTo(CommandLine main, String subcommand, RunConfig defaults, Set<String> left) {
    var spec = Objects.requireNonNull(main.getSubcommands().get(subcommand)).getCommandSpec();
    var values = defaults.settings();
    ArgGroupSpec.@Nullable Builder group = null;
    int order = 0;
    for (var setting : RunConfig.declared()) {
      if (!setting.heading().isEmpty()) {
        addGroup(spec, group);
        group =
            ArgGroupSpec.builder()
                .heading("%n" + setting.heading() + "%n")
                .validate(false)
                .exclusive(false)
                .order(order++);
      }
      if (!left.contains(setting.name())) {
        Objects.requireNonNull(group)
            .addArg(option(setting, Objects.requireNonNull(values.get(setting.name()))));
      }
    }
    addGroup(spec, group);
  }

  private static void addGroup(CommandSpec spec, ArgGroupSpec.@Nullable Builder group) {
    if (group != null && !group.args().isEmpty()) {
      spec.addArgGroup(group.build());
    }
  }

  private static OptionSpec option(Settings.Declared setting, Object value) {
    String help = setting.about().help().replace("{models}", String.join(", ", Decoders.names()));
    var option =
        OptionSpec.builder(flag(setting.name()))
            .type(String.class)
            .description(help + " Default: " + shown(setting, value) + ".")
            .paramLabel(value instanceof Number ? "N" : "VALUE");
    if (value instanceof Boolean) {
      option.arity("0..1").fallbackValue("true").paramLabel("true|false");
    }
    return option.build();
  }

  /// A default as a user would write it.
  private static String shown(Settings.Declared setting, Object value) {
    String called = setting.about().called();
    if (!called.isEmpty() && value.equals(setting.initial())) {
      return called;
    }
    return switch (value) {
      case String text when text.isEmpty() -> "empty";
      case String text when text.endsWith(" ") -> '"' + text + '"';
      case Double number when number != 0 && Math.abs(number) < 1e-3 ->
          String.format(Locale.ROOT, "%.0e", number);
      default -> String.valueOf(value);
    };
  }

  /// The settings that the user gave.
  static Map<String, String> given(ParseResult parsed) {
    Map<String, String> given = new LinkedHashMap<>();
    for (var setting : RunConfig.declared()) {
      String name = setting.name();
      if (parsed.hasMatchedOption(flag(name))) {
        given.put(name, parsed.matchedOptionValue(flag(name), ""));
      }
    }
    return given;
  }

  private static String flag(String name) {
    return "--" + name.replace('_', '-');
  }
}
