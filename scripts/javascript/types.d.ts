// Types that several of the page's modules share: objects of the dashboard's API, views, pictures.

type Attributes = Record<string, string | number | boolean | null | undefined | ((event: any) => unknown)>;
type Child = Node | string | false | null | undefined | readonly Child[];
type CleanUp = () => void;

interface Operation {
  id: string;
  action: string;
  state: string;
  message: string;
  revision?: number;
  started: string;
}

interface FunctionMetadata {
  name?: string;
  namespace?: string;
  labels?: Record<string, string>;
  annotations?: Record<string, string>;
}

interface FunctionSpec {
  description?: string;
  disable?: boolean;
  handler?: string;
  runtime?: string;
  image?: string;
  eventTimeout?: string;
  triggers?: Record<string, any>;
  resources?: Record<string, Record<string, string>>;
  env?: { name: string; value?: string }[];
  platform?: { attributes?: Record<string, any> };
}

interface GpuGroup {
  name: string;
  usage: string;
  members: { function: string; state: string; description: string }[];
}

interface FunctionStatus {
  state?: string;
  detailedState?: string;
  message?: string;
  platform?: string;
  httpPort?: number;
  url?: string;
  revision?: number;
  activated?: number;
  sleep?: { state: string; wakeSeconds: number; idleTimeout: number | null; group?: GpuGroup | null };
  replicas?: { available: number; wanted: number };
  gpu?: number;
  operation?: Operation;
  setAside?: string;
  notes?: string[];
  warnings?: string[];
  internalInvocationUrls?: string[];
  externalInvocationUrls?: string[];
}

interface FunctionObject {
  metadata?: FunctionMetadata;
  spec?: FunctionSpec;
  status?: FunctionStatus;
}

interface ListedFunction extends FunctionObject {
  key: string;
  error?: LogRecord;
}

interface LogRecord {
  time: number;
  level: string;
  message: string;
  worker?: number | null;
  fields?: Record<string, unknown>;
  replica?: string;
}

interface FunctionError {
  time: number | string;
  message: string;
  status?: number;
  requestId?: string;
}

interface Diagnostic {
  severity: string;
  rule?: string;
  message: string;
  hint?: string;
  line?: number | null;
  column?: number;
  endLine?: number;
  endColumn?: number;
}

interface PlacedDiagnostic extends Diagnostic {
  line: number;
}

interface OutputLine {
  level: string;
  message: string;
}

interface Revision {
  number: number;
  state: string;
  message?: string;
  created: string;
  digest?: string;
}

interface Finding {
  severity: string;
  path?: string;
  message: string;
  hint?: string;
}

interface Upload {
  path: string;
  name?: string;
  configuration?: string;
  diagnostics?: Diagnostic[];
  metadata?: FunctionMetadata;
  functions?: Upload[];
}

interface NamedFile {
  path: string;
  file: File;
}

interface ViewContext {
  title(text: string): void;
  signal: AbortSignal;
  reload(): void;
  navigate(hash: string): void;
  previousHash: string;
}

interface TabContext extends ViewContext {
  current(): FunctionObject | null;
  onChange(listener: (fn: FunctionObject | null) => void): void;
  tabTools: HTMLElement;
}

type Show<Context, Shown> = (root: HTMLElement, params: Record<string, string>, context: Context) => Shown;
type View = Show<ViewContext, void | CleanUp>;
type AsyncView = Show<ViewContext, Promise<void | CleanUp>>;
type Tab = Show<TabContext, void | CleanUp>;
type AsyncTab = Show<TabContext, Promise<void | CleanUp>>;

type Point = number[];
type Box = number[];
type Colour = number[];
type Size = { width: number; height: number };

interface Picture extends Size {
  name: string;
  blob: Blob;
  bitmap: ImageBitmap | HTMLCanvasElement;
}

interface PictureSource {
  count: number;
  video: boolean;
  ignoredFiles: string[];
  rate: number;
  name(index: number): string;
  picture(index: number): Promise<Picture>;
  setRate(rate: number): void;
  close(): void;
}

interface Mask extends Record<"left" | "top" | "right" | "bottom", number> {
  bits: Uint8Array;
}

interface ShapeElement {
  label: string;
  points: number[];
  outside: boolean;
}

interface Shape {
  type: string;
  label: string;
  points: number[];
  elements: ShapeElement[];
  attributes: string[][];
  rotation: number;
  confidence: number | null;
  mask?: Mask;
  index?: number;
}

interface Label {
  name: string;
  type: string;
  colour: Colour;
  edges: string[][];
  attributes: string[];
  sublabels: string[];
}

type RequestEntry = [key: string, value: any];
type StageTime = [stage: string, milliseconds: number];

interface Timing {
  ms: number;
  stages: StageTime[];
  size: number;
}

interface Invocation extends Timing {
  status: number;
  text: string;
}

interface Result {
  entries: RequestEntry[];
  shapes: Shape[];
  skipped: number;
  response?: Invocation;
  error?: any;
  matches?: number[];
  findings?: Finding[];
  checkError?: any;
}
