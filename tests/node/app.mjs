// A small app made with Slack's own JavaScript SDKs, for tests of the local workspace: it knows nothing of Apprentice.
//
// It answers a mention in the thread ("stream ..." with a streamed answer), a command with a button, the button with a
// modal, and the modal with a message. It prints "ready" when it is connected; problems go to standard error.
import bolt from '@slack/bolt';
import { WebClient } from '@slack/web-api';

const slackApiUrl = `${process.env.SLACK_WORKSPACE_URL}/api/`;
const { App, LogLevel } = bolt;
const app = new App({
  token: process.env.SLACK_BOT_TOKEN,
  appToken: process.env.SLACK_APP_TOKEN,
  socketMode: true,
  logLevel: LogLevel.WARN,
  clientOptions: { slackApiUrl },
});

app.event('app_mention', async ({ event, client, context, say }) => {
  const thread_ts = event.thread_ts ?? event.ts;
  if (!event.text.includes('stream')) {
    await say({ text: `heard: ${event.text}`, thread_ts });
    return;
  }
  const stream = client.chatStream({
    channel: event.channel,
    thread_ts,
    recipient_team_id: context.teamId,
    recipient_user_id: event.user,
    buffer_size: 8,
  });
  for (const word of ['**one** ', 'two ', 'three ', 'four']) {
    await stream.append({ markdown_text: word });
  }
  await stream.stop();
});

app.command('/apprentice', async ({ ack, command, respond }) => {
  await ack();
  await respond({
    response_type: 'ephemeral',
    text: `asked: ${command.text}`,
    blocks: [
      {
        type: 'actions',
        elements: [
          { type: 'button', action_id: 'open-form', text: { type: 'plain_text', text: 'Open' }, value: command.text },
        ],
      },
    ],
  });
});

app.action('open-form', async ({ ack, action, body, client }) => {
  await ack();
  await client.views.open({ trigger_id: body.trigger_id, view: form(action.value, body.channel.id) });
});

app.view('form', async ({ ack, view, body, client }) => {
  const words = view.state.values.words.words.value;
  if (words.startsWith('no')) {
    await ack({ response_action: 'errors', errors: { words: 'Anything but no.' } });
    return;
  }
  await ack();
  await client.chat.postMessage({ channel: view.private_metadata, text: `<@${body.user.id}> wrote ${words}` });
});

app.error(async (error) => {
  console.error(error);
  process.exitCode = 1;
});

function form(asked, channel) {
  return {
    type: 'modal',
    callback_id: 'form',
    private_metadata: channel,
    title: { type: 'plain_text', text: 'A form' },
    submit: { type: 'plain_text', text: 'Send' },
    blocks: [
      { type: 'section', text: { type: 'mrkdwn', text: `About *${asked}*` } },
      {
        type: 'input',
        block_id: 'words',
        label: { type: 'plain_text', text: 'Words' },
        element: { type: 'plain_text_input', action_id: 'words' },
      },
    ],
  };
}

const me = await new WebClient(process.env.SLACK_BOT_TOKEN, { slackApiUrl }).auth.test();
await app.start();
console.log(`ready ${me.user_id} ${me.team_id}`);
process.on('SIGTERM', async () => {
  await app.stop();
  process.exit();
});
