package dev.sluice.report;

import java.security.SecureRandom;
import java.util.ArrayList;
import java.util.HexFormat;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import tools.jackson.databind.json.JsonMapper;

/// A report that is made anew while it is read. The page is the report's; its script asks for what
/// has changed since the revision it has, and puts that in the place of what was there.
///
/// Thread-safe.
public final class LiveReport {
  /// Points of a line: more than there are pixels.
  private static final int POINTS = 3000;

  private static final JsonMapper JSON = JsonMapper.shared();

  /// @param revision in which it last changed
  private record Kept(HtmlReport.Part part, long revision) {}

  /// What a page is told.
  ///
  /// @param session of the server; another one has other revisions
  /// @param parts names of all parts in order, those of the header first, and whether they stand in
  ///   it; empty if nothing has changed
  /// @param changed the HTML of what is new, by name
  private record News(
      String session, long revision, Map<String, Boolean> parts, Map<String, String> changed) {}

  private final String session;
  private HtmlReport report = HtmlReport.titled("");
  private Map<String, Kept> parts = new LinkedHashMap<>();
  private long revision;

  /// Has nothing to show yet.
  public LiveReport() {
    byte[] random = new byte[8];
    new SecureRandom().nextBytes(random);
    session = HexFormat.of().formatHex(random);
  }

  /// Shows a report in place of the one before.
  public synchronized void show(HtmlReport next) {
    report = next;
    take(next.parts(POINTS));
  }

  /// Lets everything stand and says what is the matter.
  public synchronized void trouble(String sentence) {
    report.state(HtmlReport.State.TROUBLED, sentence);
    take(report.parts(POINTS));
  }

  private void take(List<HtmlReport.Part> next) {
    long following = revision + 1;
    var taken = new LinkedHashMap<String, Kept>();
    for (HtmlReport.Part part : next) {
      var before = parts.get(part.name());
      taken.put(
          part.name(),
          before != null && before.part().equals(part) ? before : new Kept(part, following));
    }
    boolean changed =
        !List.copyOf(taken.keySet()).equals(List.copyOf(parts.keySet()))
            || taken.values().stream().anyMatch(kept -> kept.revision() == following);
    parts = taken;
    revision = changed ? following : revision;
  }

  /// The whole page as it is now.
  public synchronized String html() {
    var now = new ArrayList<HtmlReport.Part>();
    parts.values().forEach(kept -> now.add(kept.part()));
    return report.html(now, true, new HtmlReport.Live(session, revision));
  }

  /// What the page may do, for the header of the answer.
  public static String contentSecurityPolicy() {
    return HtmlReport.livePolicy();
  }

  /// What has changed, as JSON for the page's script.
  ///
  /// @param after the revision that the page has
  public synchronized String changes(long after) {
    var order = new LinkedHashMap<String, Boolean>();
    var changed = new LinkedHashMap<String, String>();
    if (after != revision) {
      boolean all = after > revision; // of another server
      parts.forEach(
          (name, kept) -> {
            order.put(name, kept.part().inHeader());
            if (all || kept.revision() > after) {
              changed.put(name, kept.part().html());
            }
          });
    }
    return JSON.writeValueAsString(new News(session, revision, order, changed));
  }
}
