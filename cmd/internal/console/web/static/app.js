// What every page starts.
import { startTheme } from "./theme.js";
import { startTimes } from "./time.js";
import { startLive } from "./live.js";
import { startActions } from "./actions.js";
import { startList } from "./list.js";
import { startLogs } from "./log.js";

startTheme();
startTimes();
startList();
startActions();
startLogs();
startLive();
